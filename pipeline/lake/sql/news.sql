-- Grain: one row per state that landed and that operations do not have, or saw later.
-- What is left out would change nothing. A rescan of a day that did not change leaves nothing: then history
-- is not read, and neither table is written.
SELECT landed.*
FROM landed
ANTI JOIN operations
    ON operations.operation_id = landed.operation_id
    AND $same_state
    AND operations.observed_at <= landed.observed_at
    AND (
        landed.looked_up_at IS NULL
        OR operations.looked_up_at <= landed.looked_up_at
        OR epoch_us(operations.observed_at) < ($known_deadline_us)
    )
