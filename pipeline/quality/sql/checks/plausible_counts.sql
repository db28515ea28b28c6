-- Grain: one row per operation and count above the largest plausible count.
-- The delivery tables treat such a count as absent.
WITH suspicious AS (
    SELECT operation_id, $names FROM operations WHERE greatest($names) > $most
)
SELECT
    operation_id,
    count_name,
    value,
    format('{} is {:,}: more than {:,} in one operation is taken for absent', count_name, value, $most)
        AS problem
FROM suspicious
UNPIVOT (value FOR count_name IN ($names))
WHERE value > $most
ORDER BY operation_id, count_name
