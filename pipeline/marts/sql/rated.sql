-- Grain: one row per operation of one account's day.
-- What the rates need of it. An operation is rated if it carries every count that they need, so that a
-- rate never divides what one operation has by what another lacks.
SELECT
    *,
    total - canceled - scheduled - queued AS attempted,
    attempted + delivered + opened + undelivered + failed IS NOT NULL AS is_rated
FROM operations
