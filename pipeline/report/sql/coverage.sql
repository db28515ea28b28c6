-- Grain: one row per UTC day of one account, from its first operation or lost hour on.
-- The worst state of the day's slots.
WITH begun AS (
    SELECT min(created_date) AS first_day
    FROM coverage_days
    LEFT JOIN delivery_daily AS sent USING (account_id, created_date)
    WHERE account_id = $account AND (sent.operations > 0 OR coverage_days.gap_slots > 0)
)
SELECT
    created_date,
    CASE
        WHEN gap_slots > 0 THEN 'gap'
        WHEN open_slots + at_risk_slots > 0 THEN 'changing'
        WHEN before_archive_slots > 0 AND final_slots + closed_slots > 0 THEN 'partial'
        WHEN before_archive_slots > 0 THEN 'before'
        WHEN closed_slots > 0 THEN 'closed'
        ELSE 'final'
    END AS state,
    gap_slots,
    before_archive_slots,
    final_slots,
    open_slots + at_risk_slots AS changing_slots
FROM coverage_days
WHERE account_id = $account AND created_date >= (SELECT first_day FROM begun)
ORDER BY created_date
