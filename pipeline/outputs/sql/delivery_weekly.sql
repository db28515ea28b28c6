-- Grain: one row per account and UTC week of creation, which begins on Monday (ISO).
-- Sums of the days, with the weeks without operations.
WITH weeks AS (
    SELECT
        account_id,
        date_trunc('week', created_date)::DATE AS week,
        count(DISTINCT created_date) FILTER (hour IS NOT NULL) AS days,
        $sums
    FROM collected.calendar
    LEFT JOIN collected.delivery_hourly USING (account_id, created_date)
    GROUP BY account_id, week
),
counts AS (
    SELECT
        account_id,
        date_trunc('week', created_date)::DATE AS week,
        $slot_sums
    FROM collected.slot_counts
    GROUP BY account_id, week
)
SELECT
    *
    REPLACE (
        coalesce(operations, 0) AS operations,
        coalesce(rated_operations, 0) AS rated_operations
    ),
    completeness($slots) AS completeness
FROM weeks
LEFT JOIN counts USING (account_id, week)
