-- Grain: one row per operation: its newest state (R2).
SELECT $columns
FROM $states
QUALIFY row_number() OVER (PARTITION BY operation_id ORDER BY $newest_first) = 1
