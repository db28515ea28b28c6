-- Grain: one row per account and UTC month of creation.
-- Sums of the days, with the months without operations.
WITH months AS (
    SELECT
        account_id,
        date_trunc('month', created_date)::DATE AS month,
        count(DISTINCT created_date) FILTER (hour IS NOT NULL) AS days,
        $sums
    FROM collected.calendar
    LEFT JOIN collected.delivery_hourly USING (account_id, created_date)
    GROUP BY account_id, month
),
counts AS (
    SELECT
        account_id,
        date_trunc('month', created_date)::DATE AS month,
        $slot_sums
    FROM collected.slot_counts
    GROUP BY account_id, month
)
SELECT
    *
    REPLACE (
        coalesce(operations, 0) AS operations,
        coalesce(rated_operations, 0) AS rated_operations
    ),
    completeness($slots) AS completeness
FROM months
LEFT JOIN counts USING (account_id, month)
