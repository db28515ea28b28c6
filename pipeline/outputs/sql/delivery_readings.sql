-- Grain: one row per account and UTC day of creation.
-- The rates of delivery_daily under both readings of the counts, NULL if the denominator is 0 or if a slot of the day
-- is lost. Its rated_delivered is under the account's reading.
WITH both_readings AS (
    SELECT
        *,
        rated_delivered - CASE reading WHEN 'exclusive' THEN rated_opened ELSE 0 END AS rated_delivered_cumulative,
        rated_delivered_cumulative + rated_opened AS rated_delivered_exclusive,
        CASE WHEN completeness <> 'gaps' THEN nullif(rated_attempted, 0) END AS attempted,
        CASE WHEN completeness <> 'gaps' THEN rated_opened END AS opened_known
    FROM delivery_daily
)
SELECT
    *,
    rated_delivered_cumulative / attempted AS delivery_rate_cumulative,
    rated_delivered_exclusive / attempted AS delivery_rate_exclusive,
    opened_known / nullif(rated_delivered_cumulative, 0) AS open_rate_cumulative,
    opened_known / nullif(rated_delivered_exclusive, 0) AS open_rate_exclusive
FROM both_readings
