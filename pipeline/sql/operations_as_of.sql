-- Grain: one row per operation that the archive had seen at the moment `ts`.
-- The newest of the states that were first seen by then (R3): the highest updated_at; then the one that a
-- complete answer returned last. A listing after the slot's deadline is not complete, a fetch by id is. Of
-- states that only such listings returned, the earliest. The rest of the order only makes the choice among
-- states seen at one moment the same every time, and the same as the merge's.
SELECT $columns
FROM (
    SELECT
        * REPLACE (CASE WHEN looked_up_at <= ($moment) THEN looked_up_at END AS looked_up_at),
        observed_at < date_trunc('hour', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
            + INTERVAL $retention_hours HOUR AS is_in_time
    FROM history
    WHERE observed_at <= ($moment)
        -- No state is older than its operation; a day more, for one created while its scan went on. Days
        -- after that are not opened.
        AND created_date <= (($moment) AT TIME ZONE 'UTC')::DATE + 1
)
QUALIFY row_number() OVER (
    PARTITION BY account_id, created_date, operation_id
    ORDER BY
        updated_at DESC,
        CASE WHEN is_in_time THEN observed_at ELSE looked_up_at END DESC NULLS LAST,
        observed_at,
        $rest
) = 1
