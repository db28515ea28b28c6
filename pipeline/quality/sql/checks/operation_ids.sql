-- Grain: one row per operation id that is missing, or that more than one row has (R2).
-- Told by their hashes first, which takes two thirds of the time; what is suspicious is looked at itself.
WITH suspicious AS (
    SELECT hash(operation_id) AS hashed FROM operations GROUP BY hashed HAVING count(*) > 1
)
SELECT
    operation_id,
    count(*) AS operations,
    'expected one row per operation id and day, and no empty one' AS problem
FROM operations
WHERE operation_id IS NULL
    OR operation_id = ''
    OR hash(operation_id) IN (SELECT hashed FROM suspicious)
GROUP BY account_id, operation_id
HAVING operation_id IS NULL OR operation_id = '' OR count(*) > 1
ORDER BY operation_id
