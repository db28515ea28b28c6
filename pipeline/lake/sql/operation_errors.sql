-- Grain: one row per operation and distinct error, with its first observation and its most occurrences in one response.
SELECT
    operation_id,
    code,
    message,
    raw,
    max(occurrences) AS occurrences,
    min(observed_at) AS observed_at
FROM (FROM known UNION ALL BY NAME FROM new)
GROUP BY operation_id, code, message, raw
ORDER BY operation_id, observed_at, raw, code, message
