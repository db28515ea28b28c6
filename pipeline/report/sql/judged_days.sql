-- Grain: one row per rate of one account.
-- The number of its days with an expected range: enough settled days before them have the rate. Those outside
-- their range are in delivery_anomalies.
WITH rates AS (
    SELECT created_date, completeness, rate
    FROM (FROM delivery_daily WHERE account_id = $account)
    UNPIVOT (value FOR rate IN (delivery_rate, open_rate, undelivered_rate, failure_rate))
),
counted AS (
    SELECT
        rate,
        count(*) FILTER (
            completeness IN ('final', 'partial')
            OR (completeness = 'closed' AND rate IN ('undelivered_rate', 'failure_rate'))
        ) OVER (
            PARTITION BY rate
            ORDER BY created_date - DATE '1970-01-01'
            RANGE BETWEEN ($days_before::INTEGER) PRECEDING AND 1 PRECEDING
        ) AS days_before
    FROM rates
)
SELECT rate, count(*) FILTER (days_before >= $fewest_days::INTEGER) AS days
FROM counted
GROUP BY rate
ORDER BY rate
