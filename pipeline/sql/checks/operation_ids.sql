-- Grain: one row per operation id that is missing, or that more than one row has (R2).
SELECT
    operation_id,
    count(*) AS operations,
    'expected one row per operation id and day, and no empty one' AS problem
FROM operations
GROUP BY account_id, operation_id
HAVING operation_id IS NULL OR operation_id = '' OR count(*) > 1
ORDER BY operation_id
