-- Grain: one row per operation whose id has another creation time than created_at.
-- The first ten digits of an id are the Unix time in milliseconds, in base 32. The tolerance is a minute, since the
-- id is made before or after the record. All ids of about half a minute share the first seven digits, so most are
-- compared in groups, which takes an eighth of the time.
WITH beginnings AS (
    SELECT
        operation_id[17:23] AS beginning,
        min(created_at) AS earliest,
        max(created_at) AS latest
    FROM operations
    GROUP BY beginning
),
embedded_beginnings AS (
    SELECT
        beginning,
        earliest,
        latest,
        make_timestamptz(1000 * list_sum([
            (strpos('0123456789abcdefghjkmnpqrstvwxyz', beginning[place]) - 1)
                * (32::BIGINT ** (10 - place))::BIGINT
            FOR place IN range(1, 8)
        ])::BIGINT) AS embedded_from
    FROM beginnings
),
doubtful AS (
    SELECT beginning
    FROM embedded_beginnings
    -- The group spans 32768 ms. 59 s, because date_diff below counts whole seconds.
    WHERE latest > embedded_from + INTERVAL 59 SECOND
        OR earliest < embedded_from + INTERVAL '32.768' SECOND - INTERVAL 59 SECOND
),
embedded AS (
    SELECT
        operation_id,
        created_at,
        make_timestamptz(1000 * list_sum([
            (strpos('0123456789abcdefghjkmnpqrstvwxyz', operation_id[16 + place]) - 1)
                * (32::BIGINT ** (10 - place))::BIGINT
            FOR place IN range(1, 11)
        ])::BIGINT) AS embedded_at
    FROM operations
    WHERE operation_id[17:23] IN (SELECT beginning FROM doubtful)
)
SELECT
    operation_id,
    'the id says that it was created at ' || embedded_at::VARCHAR AS problem
FROM embedded
-- Ids of another format have no time. Within CASE, so that DuckDB matches only these few ids.
WHERE CASE
    WHEN abs(date_diff('second', embedded_at, created_at)) > 60 THEN regexp_matches(operation_id, $pattern)
    ELSE false
END
ORDER BY operation_id
