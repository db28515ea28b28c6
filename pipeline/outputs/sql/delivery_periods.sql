-- Grain: one row per account and UTC period of creation: a week, which begins on Monday (ISO), or a month.
-- Sums of the days, with the periods without operations.
WITH periods AS (
    SELECT
        account_id,
        date_trunc('$period', created_date)::DATE AS $period,
        count(DISTINCT created_date) FILTER (hour IS NOT NULL) AS days,
        $sums
    FROM collected.calendar
    LEFT JOIN collected.delivery_hourly USING (account_id, created_date)
    GROUP BY account_id, $period
),
counts AS (
    SELECT
        account_id,
        date_trunc('$period', created_date)::DATE AS $period,
        $slot_sums
    FROM collected.slot_counts
    GROUP BY account_id, $period
)
SELECT
    *
    REPLACE (
        coalesce(operations, 0) AS operations,
        coalesce(rated_operations, 0) AS rated_operations
    ),
    completeness($slots) AS completeness
FROM periods
LEFT JOIN counts USING (account_id, $period)
