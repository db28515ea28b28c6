-- Grain: one row per distinct state, sorted by operation, then in the order of its states.
SELECT $columns FROM history ANTI JOIN states USING (operation_id)
UNION ALL
SELECT $columns FROM states
ORDER BY operation_id, updated_at, observed_at, $rest
