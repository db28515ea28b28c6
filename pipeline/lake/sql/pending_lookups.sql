-- Grain: one row per operation and subject to be looked up by id.
-- An operation is looked up until it is settled, or until the API returns 404. Its errors are looked up until a lookup
-- succeeds, and again when the count of failed emails has changed.
WITH
states_requested AS (
    SELECT operation_id, max(requested_at) AS requested_at, bool_or(not_found_at IS NOT NULL) AS is_not_found
    FROM lookups
    WHERE subject = 'operation'
    GROUP BY operation_id
),
errors_requested AS (
    SELECT operation_id, failed, max(requested_at) AS requested_at, bool_or(error IS NULL) AS has_succeeded
    FROM lookups
    WHERE subject = 'errors'
    GROUP BY operation_id, failed
)
SELECT operation_id, 'operation' AS subject, created_at, observed_at, failed, requested_at
FROM operations
LEFT JOIN states_requested USING (operation_id)
WHERE
    is_not_found IS NOT TRUE
    AND NOT (
        status IN ($settled_statuses)
        AND coalesce(scheduled, 0) = 0
        AND coalesce(queued, 0) = 0
    )
UNION ALL
SELECT operation_id, 'errors' AS subject, created_at, observed_at, failed, requested_at
FROM operations
LEFT JOIN errors_requested USING (operation_id, failed)
WHERE failed > 0 AND has_succeeded IS NOT TRUE
ORDER BY subject DESC, operation_id
