-- Grain: one row per operation observed by the moment `ts`.
-- The newest of the states that were first observed by then (R3). A later fetch by id does not count.
SELECT $columns
FROM (
    SELECT * REPLACE (CASE WHEN looked_up_at <= ($moment) THEN looked_up_at END AS looked_up_at)
    FROM history
    WHERE observed_at <= ($moment)
        -- An operation is not observed before it was created, but a scan may begin before midnight and
        -- list operations created after it: hence one more day. Later days' files are not opened.
        AND created_date <= (($moment) AT TIME ZONE 'UTC')::DATE + 1
)
QUALIFY row_number() OVER (
    PARTITION BY account_id, created_date, operation_id
    ORDER BY
$newest_first
) = 1
