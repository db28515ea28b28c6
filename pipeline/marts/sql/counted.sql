-- Grain: one row per hour of creation, status, size class and whether operations have every count that
-- the rates need, of one account's day.
-- The sums of delivery_hourly and operation_sizes, so that operations are read once. Absent counts are
-- skipped. The rated_ columns are sums over operations that have every count which the rates need, so that
-- numerator and denominator of a rate are of the same operations.
WITH grouped AS (
    SELECT
        -- Integer division: date_trunc uses a calendar and takes as long as all the sums.
        epoch_us(created_at) // $hour_us AS hour,
        status,
        CASE $classes END AS smallest,
        $is_rated AS is_rated,
        count(*) AS operations,
        $counts
    FROM operations
    GROUP BY ALL
)
SELECT
    make_timestamptz(hour * $hour_us) AS hour,
    status,
    smallest,
    operations,
    $names_of_counts,
    CASE WHEN is_rated THEN operations ELSE 0 END AS rated_operations,
    CASE WHEN is_rated THEN total - canceled - scheduled - queued END AS rated_attempted,
    $rated
FROM grouped
