-- Grain: one row per hour of creation and status, of one account's day.
-- Sums skip counts that are absent; the rated_ columns sum only operations that carry every count
-- which the rates need, so that a rate never divides what one operation has by what another lacks.
WITH rated AS (
    SELECT
        *,
        total - canceled - scheduled - queued AS attempted,
        attempted + delivered + opened + undelivered + failed IS NOT NULL AS is_rated
    FROM operations
)
SELECT
    date_trunc('hour', created_at) AS hour,
    status,
    count(*) AS operations,
    $sums,
    count(*) FILTER (is_rated) AS rated_operations,
    sum(attempted) FILTER (is_rated) AS rated_attempted,
    sum(delivered) FILTER (is_rated) AS rated_delivered,
    sum(opened) FILTER (is_rated) AS rated_opened,
    sum(undelivered) FILTER (is_rated) AS rated_undelivered,
    sum(failed) FILTER (is_rated) AS rated_failed
FROM rated
GROUP BY hour, status
ORDER BY hour, status
