-- Grain: one row per lookup of one operation.
FROM known
UNION BY NAME
FROM new
ORDER BY operation_id, asked_at, subject, failed, gone_at, refusal
