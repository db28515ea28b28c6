-- Grain: one row per operation and count that is too large to be believed.
SELECT operation_id, name, value
FROM (
    UNPIVOT (SELECT operation_id, $names_of_counts FROM ($operations))
    ON $names_of_counts
    INTO NAME name VALUE value
)
WHERE value > $most
