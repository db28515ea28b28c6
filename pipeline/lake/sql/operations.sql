-- Grain: one row per operation.
-- The newest state of each operation (R2, R3): the highest updated_at; then one seen before the
-- slot's deadline rather than after it, since old windows may be answered incompletely; then the
-- latest seen before it, or the earliest seen after it. What is still equal was seen at the same
-- moment: further along is newer, and the rest of the order only makes the choice the same every time.
WITH aged AS (
    SELECT
        *,
        observed_at < date_trunc('hour', created_at) + INTERVAL 7 DAY AS in_time
    FROM states
)
SELECT * EXCLUDE (in_time)
FROM aged
QUALIFY row_number() OVER (
    PARTITION BY operation_id
    ORDER BY
        updated_at DESC,
        in_time DESC,
        CASE WHEN in_time THEN observed_at END DESC,
        observed_at,
        $state_descending
) = 1
ORDER BY operation_id
