-- Grain: one row per account and UTC day of creation.
WITH days AS (
    SELECT
        account_id,
        created_date,
        $sums
    FROM hourly
    GROUP BY account_id, created_date
)
SELECT *, completeness($slots) AS completeness
FROM days
LEFT JOIN slot_counts USING (account_id, created_date)
