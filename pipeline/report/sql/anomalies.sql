-- Grain: one row per UTC day and rate that left its band, of one account; the newest day first.
SELECT created_date, rate, direction, value, expected, low, high, emails, completeness
FROM delivery_anomalies
WHERE account_id = $account
ORDER BY created_date DESC, rate
