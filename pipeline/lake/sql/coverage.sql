-- Grain: one row per scan. One that was merged before, and whose landed file stayed, is there once (R5).
FROM known
UNION BY NAME
FROM new
ORDER BY observed_at, scan_id
