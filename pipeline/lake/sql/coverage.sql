-- Grain: one row per scan. A scan that is merged again, because its landed file was left behind, stays one row (R5).
FROM known
UNION BY NAME
FROM new
ORDER BY observed_at, scan_id
