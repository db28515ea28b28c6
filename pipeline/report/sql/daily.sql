-- Grain: one row per UTC day of one account, from its first operation to its latest scan.
-- Days without operations are 0; lost days are included. A day without operations takes its completeness from its
-- slots.
SELECT
    created_date AS period,
    CASE
        WHEN coverage_days.before_archive_slots = 24 THEN 'before'
        WHEN completeness IS NOT NULL THEN completeness
        WHEN coverage_days.gap_slots > 0 THEN 'gaps'
        WHEN open_slots + at_risk_slots > 0 THEN 'changing'
        WHEN coverage_days.before_archive_slots > 0 THEN 'partial'
        WHEN coverage_days.closed_slots > 0 THEN 'closed'
        ELSE 'final'
    END AS completeness,
    24 AS hours,
    24 - coverage_days.before_archive_slots AS archived_hours,
    coverage_days.gap_slots AS lost_hours,
    coalesce(operations, 0) AS operations,
    coalesce(total, 0) AS emails,
    delivery_rate,
    open_rate,
    undelivered_rate,
    failure_rate
FROM coverage_days
LEFT JOIN delivery_daily USING (account_id, created_date)
WHERE account_id = $account
    AND created_date
        >= (SELECT min(created_date) FROM delivery_daily WHERE account_id = $account)
ORDER BY period
