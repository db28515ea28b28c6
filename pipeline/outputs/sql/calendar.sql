-- Grain: one row per account and UTC day from its first one with operations to its latest scan.
-- A day without operations is one too, lost or not: left out, it would look as if nothing had been lost.
SELECT account_id, created_date
FROM slots
JOIN (SELECT account_id, min(created_date) AS first_day FROM delivery_hourly GROUP BY account_id)
    USING (account_id)
WHERE created_date >= first_day
UNION
SELECT account_id, created_date
FROM delivery_hourly
