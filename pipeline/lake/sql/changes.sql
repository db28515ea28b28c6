-- Grain: one row: of the current piece, the number of new operations, and of operations whose newest state has
-- changed.
SELECT
    count(*) FILTER (operations.operation_id IS NULL) AS new,
    count(*) FILTER (operations.operation_id IS NOT NULL AND NOT ($same_row)) AS changed
FROM newest
LEFT JOIN operations USING (operation_id)
