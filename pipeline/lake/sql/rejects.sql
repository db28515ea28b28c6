-- Grain: one row per distinct record that could not be parsed, with the first scan that returned it (R1).
SELECT $columns
FROM (FROM known UNION ALL BY NAME FROM new)
QUALIFY row_number() OVER (
    PARTITION BY reason, raw, operation_id, created_at
    ORDER BY observed_at, scan_id
) = 1
ORDER BY raw, reason, operation_id, created_at
