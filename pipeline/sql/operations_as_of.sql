-- Grain: one row per operation that the archive had seen at the moment `ts`.
-- The newest of the states that were first seen by then (R3): the highest updated_at; then one seen before
-- the slot's deadline; then the latest seen before it, or the earliest seen after it. The rest of the
-- order only makes the choice among states seen at one moment the same every time, and the same as the
-- fold's.
SELECT $columns
FROM history
WHERE observed_at <= ($moment)
    -- No state is older than its operation; a day more, for one created while its scan went on. Days
    -- after that are not opened.
    AND created_date <= (($moment) AT TIME ZONE 'UTC')::DATE + 1
QUALIFY row_number() OVER (
    PARTITION BY account_id, created_date, operation_id
    ORDER BY
        updated_at DESC,
        observed_at < date_trunc('hour', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
            + INTERVAL $retention_hours HOUR DESC,
        CASE
            WHEN observed_at < date_trunc('hour', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                + INTERVAL $retention_hours HOUR
                THEN -epoch_us(observed_at)
            ELSE epoch_us(observed_at)
        END,
        $rest
) = 1
