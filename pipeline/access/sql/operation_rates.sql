-- Grain: that of `operations`.
-- Adds each operation's own rates, under its account's reading of the counts (see the table counting). As in
-- delivery_daily, a rate is one of the rated_ columns divided by another. All are NULL in an operation that lacks a
-- count which the rates need, or has an implausibly large one.
SELECT
    $columns,
    CASE WHEN is_rated THEN total - canceled - scheduled - queued END AS rated_attempted,
    CASE
        WHEN is_rated AND reading = 'exclusive' THEN delivered + opened
        WHEN is_rated THEN delivered
    END AS rated_delivered,
    CASE WHEN is_rated THEN opened END AS rated_opened,
    CASE WHEN is_rated THEN undelivered END AS rated_undelivered,
    CASE WHEN is_rated THEN failed END AS rated_failed,
    rated_delivered / nullif(rated_attempted, 0) AS delivery_rate,
    rated_opened / nullif(rated_delivered, 0) AS open_rate,
    rated_undelivered / nullif(rated_attempted, 0) AS undelivered_rate,
    rated_failed / nullif(rated_attempted, 0) AS failure_rate,
    coalesce(counting.reading, 'cumulative') AS reading,
    coalesce(counting.decided, false) AS reading_decided
FROM (SELECT *, $is_rated AS is_rated FROM operations) AS operations
LEFT JOIN counting USING (account_id)
ORDER BY account_id, created_date, operation_id
