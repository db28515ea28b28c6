-- Grain: one row per operation of a window that the archive has or that the API has just listed.
-- outdated: merging the listed state would change the operation.
WITH
known_states AS ($known_states),
merged_states AS ($merged_states),
known AS ($known),
merged AS ($merged)
SELECT
    operation_id,
    merged.created_at,
    CASE
        WHEN known.operation_id IS NULL THEN 'unknown'
        WHEN operation_id NOT IN (SELECT listed.operation_id FROM listed) THEN 'unlisted'
        WHEN $merged_is_known THEN 'current'
        ELSE 'outdated'
    END AS comparison
FROM merged
LEFT JOIN known USING (operation_id)
