-- Grain: one row per state in history that a lookup by id returned, with looked_up_at, which earlier versions did not
-- store.
-- Such a state has the observation time of the lookup. A state that a listing had returned before the lookup has the
-- time of the listing and is not found.
SELECT history.* REPLACE (history.observed_at AS looked_up_at)
FROM history
SEMI JOIN lookups
    ON lookups.operation_id = history.operation_id
    AND lookups.requested_at = history.observed_at
    AND lookups.subject = 'operation'
    AND lookups.not_found_at IS NULL
    AND lookups.error IS NULL
