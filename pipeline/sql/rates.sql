-- Grain: that of the table `summed`.
-- The rates of a delivery table, under the account's reading of the counts and under both (see the
-- table counting). They are sums over sums, never averages of rates, and NULL where there is nothing
-- to divide by. Under the exclusive reading an opened email is no longer counted as delivered, so
-- the two are added.
WITH read_as AS (
    SELECT
        summed.*,
        rated_delivered + rated_opened AS delivered_exclusive,
        CASE reading WHEN 'exclusive' THEN delivered_exclusive ELSE rated_delivered END
            AS delivered_by_reading
    FROM summed
    LEFT JOIN counting
        ON counting.account_id = summed.account_id AND counting.question = 'opened_in_delivered'
)
SELECT
    * EXCLUDE (delivered_exclusive, delivered_by_reading),
    delivered_by_reading / nullif(rated_attempted, 0) AS delivery_rate,
    rated_opened / nullif(delivered_by_reading, 0) AS open_rate,
    rated_undelivered / nullif(rated_attempted, 0) AS undelivered_rate,
    rated_failed / nullif(rated_attempted, 0) AS failure_rate,
    rated_delivered / nullif(rated_attempted, 0) AS delivery_rate_cumulative,
    delivered_exclusive / nullif(rated_attempted, 0) AS delivery_rate_exclusive,
    rated_opened / nullif(rated_delivered, 0) AS open_rate_cumulative,
    rated_opened / nullif(delivered_exclusive, 0) AS open_rate_exclusive
FROM read_as
ORDER BY ALL
