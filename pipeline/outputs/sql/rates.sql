-- Grain: that of the table `summed`.
-- Adds the rates of a delivery table, under the account's reading of the counts (see the table counting). Rates are
-- sums over sums, NULL if the denominator is 0 or if a slot of the period is lost; the sums are there even then. Under
-- the exclusive reading an opened email is no longer counted as delivered, so the two are added. rated_delivered is
-- under the account's reading too, so that sums over periods divide as here.
WITH read_as AS (
    SELECT
        summed.* REPLACE (
            CASE reading WHEN 'exclusive' THEN rated_delivered + rated_opened ELSE rated_delivered END
                AS rated_delivered
        ),
        coalesce(reading, 'cumulative') AS reading,
        coalesce(decided, false) AS reading_decided,
        CASE WHEN completeness <> 'gaps' THEN nullif(rated_attempted, 0) END AS attempted,
        CASE WHEN completeness <> 'gaps' THEN rated_opened END AS opened_known
    FROM summed
    LEFT JOIN counting
        ON counting.account_id = summed.account_id AND counting.question = 'opened_in_delivered'
)
SELECT
    * EXCLUDE (attempted, opened_known),
    rated_delivered / attempted AS delivery_rate,
    opened_known / nullif(rated_delivered, 0) AS open_rate,
    rated_undelivered / attempted AS undelivered_rate,
    rated_failed / attempted AS failure_rate
FROM read_as
ORDER BY ALL
