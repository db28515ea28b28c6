-- Grain: one row per account and UTC day of creation.
-- A day is compacted if none of its slots will be scanned again: each has had its final scan or is past its
-- deadline.
SELECT
    account_id,
    created_date,
    count(*) = 24 AND bool_and(state IN ('final', 'closed', 'gap', 'before_archive')) AS compacted,
    count(*) FILTER (state = 'final') / 24 AS final_share,
    count(*) FILTER (state = 'open') AS open_slots,
    count(*) FILTER (state = 'at_risk') AS at_risk_slots,
    count(*) FILTER (state = 'final') AS final_slots,
    count(*) FILTER (state = 'closed') AS closed_slots,
    count(*) FILTER (state = 'gap') AS gap_slots,
    count(*) FILTER (state = 'before_archive') AS before_archive_slots,
    max(covered_at) AS last_scan_at
FROM coverage_slots
GROUP BY account_id, created_date
ORDER BY account_id, created_date
