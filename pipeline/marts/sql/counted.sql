-- Grain: one row per hour of creation, status, size class and whether operations carry every count that
-- the rates need, of one account's day.
-- What delivery_hourly and operation_sizes add up, so that the operations are gone through once. Sums
-- skip counts that are absent; the rated_ columns sum only operations that carry every count which the
-- rates need, so that a rate never divides what one operation has by what another lacks.
WITH grouped AS (
    SELECT
        -- By number: date_trunc asks a calendar, and takes as long as all the sums.
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
