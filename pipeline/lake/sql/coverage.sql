-- Grain: one row per scan.
-- A scan that was folded before, by a run that did not get to remove its file, counts once (R5).
SELECT DISTINCT *
FROM (
    SELECT * FROM known
    UNION ALL BY NAME
    SELECT * FROM landed
)
ORDER BY observed_at, scan_id
