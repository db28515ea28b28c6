-- Grain: one row per operation, sorted by operation.
SELECT $columns FROM operations ANTI JOIN newest USING (operation_id)
UNION ALL
SELECT $columns FROM newest
ORDER BY operation_id
