-- Grain: one row per account and UTC week of creation, which begins on Monday (ISO).
WITH weeks AS (
    SELECT
        account_id,
        date_trunc('week', created_date)::DATE AS week,
        count(DISTINCT created_date) AS days,
        $sums
    FROM hourly
    GROUP BY account_id, week
),
counts AS (
    SELECT
        account_id,
        date_trunc('week', created_date)::DATE AS week,
        $slot_sums
    FROM slot_counts
    GROUP BY account_id, week
)
SELECT *, completeness($slots) AS completeness
FROM weeks
LEFT JOIN counts USING (account_id, week)
