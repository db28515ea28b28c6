-- Grain: one row per account and UTC day of creation.
-- Sums of the hours, with the days without operations.
WITH days AS (
    SELECT
        account_id,
        created_date,
        $sums
    FROM collected.delivery_hourly
    GROUP BY account_id, created_date
)
SELECT
    *
    REPLACE (
        coalesce(operations, 0) AS operations,
        coalesce(rated_operations, 0) AS rated_operations
    ),
    completeness($slots) AS completeness
FROM collected.calendar
LEFT JOIN days USING (account_id, created_date)
LEFT JOIN collected.slot_counts USING (account_id, created_date)
