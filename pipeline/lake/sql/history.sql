-- Grain: one row per distinct state of an operation.
-- All states that were ever seen: those known and those that landed. A state is everything but the
-- moment of seeing it; it was first seen at the earliest of its moments. Absence removes nothing (R1).
-- The order is total, so that the same content is the same file, whatever landed first (R5).
SELECT
    * EXCLUDE (observed_at),
    min(observed_at) AS observed_at
FROM (
    SELECT * FROM known
    UNION ALL BY NAME
    SELECT * FROM landed
)
GROUP BY ALL
ORDER BY operation_id, updated_at, observed_at, $state
