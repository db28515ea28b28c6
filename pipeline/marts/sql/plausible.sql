-- Grain: one row per operation. Counts that are too large to be believed are absent.
SELECT operation_id, status, created_at, $believed
FROM ($operations)
