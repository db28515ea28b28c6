-- Grain: one row per lookup of one operation.
FROM known
UNION BY NAME
FROM new
ORDER BY operation_id, requested_at, subject, failed, not_found_at, error
