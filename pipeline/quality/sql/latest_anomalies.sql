-- Grain: one row per account, UTC day of creation and rate outside its expected range.
-- The anomalies of each account's last days.
WITH last_days AS (
    SELECT account_id, max(created_date) AS last_day
    FROM delivery_daily
    WHERE operations > 0
    GROUP BY account_id
)
SELECT
    account_id,
    created_date,
    rate,
    value,
    expected,
    low,
    high,
    last_day - created_date AS age_days
FROM delivery_anomalies
JOIN last_days USING (account_id)
WHERE created_date > last_day - $days
ORDER BY created_date DESC, account_id, rate
