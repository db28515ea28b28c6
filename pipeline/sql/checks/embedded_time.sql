-- Grain: one row per operation whose id names another time of creation than created_at.
-- The first ten of an id's digits are the Unix time in milliseconds, in base 32: a free cross-check.
-- A minute's tolerance, since the id is made somewhat before or after the record.
WITH embedded AS (
    SELECT
        operation_id,
        created_at,
        make_timestamptz(1000 * list_sum([
            (strpos('0123456789abcdefghjkmnpqrstvwxyz', operation_id[16 + place]) - 1)
                * (32::BIGINT ** (10 - place))::BIGINT
            FOR place IN range(1, 11)
        ])::BIGINT) AS embedded_at
    FROM operations
    WHERE regexp_matches(operation_id, $pattern)
)
SELECT
    operation_id,
    'the id says that it was created at ' || embedded_at::VARCHAR AS problem
FROM embedded
WHERE abs(date_diff('second', embedded_at, created_at)) > 60
ORDER BY operation_id
