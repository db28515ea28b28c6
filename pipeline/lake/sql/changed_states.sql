-- Grain: one row per changed state: a landed state that differs from the stored newest state of its operation, or was
-- observed before it.
-- All others would change nothing. If there are none, as after a rescan of a day that did not change, history is not
-- read and neither table is written.
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
