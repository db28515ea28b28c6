-- Grain: one row per account and UTC day, from its first day with operations to its latest scan.
-- Days without operations are included, whether lost or empty.
SELECT account_id, created_date
FROM slots
JOIN (SELECT account_id, min(created_date) AS first_day FROM delivery_hourly GROUP BY account_id)
    USING (account_id)
WHERE created_date >= first_day
UNION
SELECT account_id, created_date
FROM delivery_hourly
