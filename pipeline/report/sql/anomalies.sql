-- Grain: one row per UTC day and rate of one account that is outside its band.
-- The newest day comes first.
SELECT created_date, rate, direction, value, expected, low, high, emails, completeness
FROM delivery_anomalies
WHERE account_id = $account
ORDER BY created_date DESC, rate
