-- Grain: one row per operation that the archive had seen at the moment `ts`: the newest of the states that
-- were first seen by then (R3). What a fetch by id returned later, it had not returned yet.
SELECT $columns
FROM (
    SELECT * REPLACE (CASE WHEN looked_up_at <= ($moment) THEN looked_up_at END AS looked_up_at)
    FROM history
    WHERE observed_at <= ($moment)
        -- No state is older than its operation; a day more, for one created while its scan went on. Days
        -- after that are not opened.
        AND created_date <= (($moment) AT TIME ZONE 'UTC')::DATE + 1
)
QUALIFY row_number() OVER (
    PARTITION BY account_id, created_date, operation_id
    ORDER BY
$newest_first
) = 1
