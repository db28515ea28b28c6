-- Grain: one row per distinct state, by operation, then as its states came about.
SELECT $columns FROM history ANTI JOIN states USING (operation_id)
UNION ALL
SELECT $columns FROM states
ORDER BY operation_id, updated_at, observed_at, $rest
