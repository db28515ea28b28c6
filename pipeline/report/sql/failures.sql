-- Grain: one row per account, band of days (see `operations`) and code of an error, or its message if it has no code.
-- Errors of operations that were stored, with an example of their message.
SELECT
    account_id,
    list_position(list_transform($firsts, lambda first: created_date >= first), true) AS band,
    coalesce(code, '') AS code,
    CASE WHEN code IS NULL THEN left(coalesce(message, raw), 200) ELSE '' END AS reason,
    left(min(coalesce(message, raw)), 200) AS message,
    count(DISTINCT coalesce(message, raw)) AS messages,
    count(DISTINCT operation_id) AS operations,
    sum(occurrences)::BIGINT AS occurrences
FROM operation_errors
WHERE list_contains($accounts::VARCHAR[], account_id) AND created_date >= $firsts[-1]
GROUP BY account_id, band, code, reason
ORDER BY account_id, band, operations DESC, code, reason
