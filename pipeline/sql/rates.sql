-- Grain: that of the table `summed`.
-- The rates of a delivery table, under the account's reading of the counts and under both (see the
-- table counting). They are sums over sums, never averages of rates, and NULL where there is nothing
-- to divide by. Under the exclusive reading an opened email is no longer counted as delivered, so
-- the two are added. A rate over lost data must not look like a rate: where a slot of the period is
-- lost there is none, and whoever wants to divide what is left has the sums.
WITH read_as AS (
    SELECT
        summed.*,
        CASE WHEN completeness <> 'gaps' THEN nullif(rated_attempted, 0) END AS attempted,
        CASE WHEN completeness <> 'gaps' THEN rated_opened END AS opened_known,
        rated_delivered + rated_opened AS delivered_exclusive,
        CASE reading WHEN 'exclusive' THEN delivered_exclusive ELSE rated_delivered END
            AS delivered_by_reading
    FROM summed
    LEFT JOIN counting
        ON counting.account_id = summed.account_id AND counting.question = 'opened_in_delivered'
)
SELECT
    * EXCLUDE (attempted, opened_known, delivered_exclusive, delivered_by_reading),
    delivered_by_reading / attempted AS delivery_rate,
    opened_known / nullif(delivered_by_reading, 0) AS open_rate,
    rated_undelivered / attempted AS undelivered_rate,
    rated_failed / attempted AS failure_rate,
    rated_delivered / attempted AS delivery_rate_cumulative,
    delivered_exclusive / attempted AS delivery_rate_exclusive,
    opened_known / nullif(rated_delivered, 0) AS open_rate_cumulative,
    opened_known / nullif(delivered_exclusive, 0) AS open_rate_exclusive
FROM read_as
ORDER BY ALL
