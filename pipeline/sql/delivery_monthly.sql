-- Grain: one row per account and UTC month of creation.
WITH months AS (
    SELECT
        account_id,
        date_trunc('month', created_date)::DATE AS month,
        count(DISTINCT created_date) AS days,
        $sums
    FROM hourly
    GROUP BY account_id, month
),
counts AS (
    SELECT
        account_id,
        date_trunc('month', created_date)::DATE AS month,
        $slot_sums
    FROM slot_counts
    GROUP BY account_id, month
)
SELECT *, completeness($slots) AS completeness
FROM months
LEFT JOIN counts USING (account_id, month)
