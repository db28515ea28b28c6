-- Grain: one row per operation of a window that the archive has or that the API listed now.
-- newer: to merge what was listed would change the operation.
WITH
known_states AS ($known_states),
merged_states AS ($merged_states),
known AS ($known),
merged AS ($merged),
now AS ($now)
SELECT
    operation_id,
    coalesce(now.created_at, known.created_at) AS created_at,
    CASE
        WHEN known.operation_id IS NULL THEN 'unknown'
        WHEN now.operation_id IS NULL THEN 'forgotten'
        WHEN $now_is_known THEN 'equal'
        WHEN $merged_is_known THEN 'older'
        ELSE 'newer'
    END AS comparison
FROM merged
LEFT JOIN known USING (operation_id)
LEFT JOIN now USING (operation_id)
