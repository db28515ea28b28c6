-- Grain: one row per distinct record that could not be read.
-- The same record comes again with every scan of its window; the first time counts.
SELECT
    * EXCLUDE (observed_at, scan_id),
    min(observed_at) AS observed_at,
    arg_min(scan_id, (observed_at, scan_id)) AS scan_id
FROM (
    SELECT * FROM known
    UNION ALL BY NAME
    SELECT * FROM landed
)
GROUP BY ALL
ORDER BY raw, reason
