-- Grain: one row per operation and implausibly large count.
SELECT operation_id, name, value
FROM (
    UNPIVOT (SELECT operation_id, $names_of_counts FROM ($operations))
    ON $names_of_counts
    INTO NAME name VALUE value
)
WHERE value > $most
