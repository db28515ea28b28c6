-- Grain: one row per hour of creation, status and size class, of one account's day.
-- What delivery_hourly and operation_sizes add up, so that the operations are gone through once. Sums
-- skip counts that are absent; the rated_ columns sum only operations that carry every count which the
-- rates need, so that a rate never divides what one operation has by what another lacks.
WITH rated AS (
    SELECT
        *,
        total - canceled - scheduled - queued AS attempted,
        attempted + delivered + opened + undelivered + failed IS NOT NULL AS is_rated,
        CASE $classes END AS smallest
    FROM operations
)
SELECT
    date_trunc('hour', created_at) AS hour,
    status,
    smallest,
    count(*) AS operations,
    $counts,
    count(*) FILTER (is_rated) AS rated_operations,
    $rated
FROM rated
GROUP BY ALL
