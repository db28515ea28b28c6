-- Grain: one row per account and UTC day of creation.
SELECT
    account_id,
    created_date,
    $sums
FROM hourly
GROUP BY account_id, created_date
