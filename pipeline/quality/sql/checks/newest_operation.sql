-- Grain: one row per account that has been without new operations for longer than usual.
-- The time from the hour of the newest operation to the latest scan is compared with the longest time between two
-- hours with operations in the 4 weeks before, or with 6 hours if that is longer.
WITH moments AS (
    SELECT account_id, max(completed_at) AS as_of FROM coverage GROUP BY account_id
),
newest AS (
    SELECT account_id, max(hour) AS newest FROM delivery_hourly GROUP BY account_id
),
busy AS (
    SELECT DISTINCT account_id, hour, newest
    FROM delivery_hourly
    JOIN newest USING (account_id)
    WHERE hour > newest - INTERVAL 28 DAY
),
pauses AS (
    SELECT
        account_id,
        newest,
        hour - lag(hour) OVER (PARTITION BY account_id ORDER BY hour) AS pause
    FROM busy
),
silences AS (
    SELECT
        account_id,
        newest,
        greatest(max(pause), INTERVAL 6 HOUR) AS longest,
        as_of - newest - INTERVAL 1 HOUR AS silence
    FROM pauses
    JOIN moments USING (account_id)
    GROUP BY account_id, newest, as_of
)
SELECT
    account_id,
    'no operation since the hour of ' || newest::VARCHAR || ', for longer than ever in 4 weeks' AS problem
FROM silences
WHERE silence > 2 * longest
ORDER BY account_id
