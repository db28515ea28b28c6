-- Grain: one row per account and UTC month of creation.
SELECT
    account_id,
    date_trunc('month', created_date)::DATE AS month,
    count(DISTINCT created_date) AS days,
    $sums
FROM hourly
GROUP BY account_id, month
