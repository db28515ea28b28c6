-- Grain: one row per state that an earlier version kept and that a fetch by id returned.
-- It is told by its moment: that of the lookup. One that a listing had returned before can't be told.
SELECT history.* REPLACE (history.observed_at AS looked_up_at)
FROM history
SEMI JOIN lookups
    ON lookups.operation_id = history.operation_id
    AND lookups.requested_at = history.observed_at
    AND lookups.subject = 'operation'
    AND lookups.not_found_at IS NULL
    AND lookups.error IS NULL
