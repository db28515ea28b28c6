-- Grain: one row per operation with drift.
-- Statuses, fields and id formats that the API's reference does not know. They are kept.
WITH named AS (
    SELECT
        operation_id,
        status,
        list_filter(json_keys(extra), lambda name: name NOT IN ('stats', 'createdAt', 'updatedAt'))
            || list_filter(coalesce(json_keys(extra, '$$.stats'), []), lambda name: name NOT IN ($counts))
            AS fields
    FROM operations
)
SELECT
    operation_id,
    CASE
        WHEN status NOT IN ($statuses) THEN 'unknown status ' || status
        WHEN len(fields) > 0 THEN 'unknown field ' || array_to_string(fields, ', ')
        ELSE 'id that does not match the documented pattern'
    END AS problem
FROM named
WHERE status NOT IN ($statuses)
    OR len(fields) > 0
    OR NOT regexp_matches(operation_id, $pattern)
ORDER BY operation_id
