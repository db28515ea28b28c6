-- Grain: one row per operation and subject to be looked up by id.
-- An operation is looked up until it is settled, or until the API answers 404. Its errors are looked up until
-- they are answered, once for each count of failed emails.
WITH
states_asked AS (
    SELECT operation_id, max(asked_at) AS asked_at, bool_or(gone_at IS NOT NULL) AS is_gone
    FROM lookups
    WHERE subject = 'operation'
    GROUP BY operation_id
),
errors_asked AS (
    SELECT operation_id, failed, max(asked_at) AS asked_at, bool_or(refusal IS NULL) AS is_answered
    FROM lookups
    WHERE subject = 'errors'
    GROUP BY operation_id, failed
)
SELECT operation_id, 'operation' AS subject, created_at, observed_at, failed, asked_at
FROM operations
LEFT JOIN states_asked USING (operation_id)
WHERE
    is_gone IS NOT TRUE
    AND NOT (
        status IN ($settled_statuses)
        AND coalesce(scheduled, 0) = 0
        AND coalesce(queued, 0) = 0
    )
UNION ALL
SELECT operation_id, 'errors' AS subject, created_at, observed_at, failed, asked_at
FROM operations
LEFT JOIN errors_asked USING (operation_id, failed)
WHERE failed > 0 AND is_answered IS NOT TRUE
ORDER BY subject DESC, operation_id
