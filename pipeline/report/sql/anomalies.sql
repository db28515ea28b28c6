-- Grain: one row per account, UTC day and rate that is outside its band.
-- The newest day comes first.
SELECT account_id, created_date, rate, direction, value, expected, low, high, emails, completeness
FROM delivery_anomalies
WHERE account_id IN (SELECT unnest($accounts))
ORDER BY created_date DESC, account_id, rate
