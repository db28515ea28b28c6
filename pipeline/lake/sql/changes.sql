-- Grain: one row: how many operations of the current piece are new, and how many have another newest state
-- than before.
SELECT
    count(*) FILTER (operations.operation_id IS NULL) AS new,
    count(*) FILTER (operations.operation_id IS NOT NULL AND NOT ($same_row)) AS changed
FROM newest
LEFT JOIN operations USING (operation_id)
