-- Grain: one row per record that could not be parsed.
-- The record and the reason.
SELECT
    coalesce(operation_id, '') AS operation_id,
    reason AS problem,
    raw
FROM rejects
ORDER BY observed_at, operation_id
