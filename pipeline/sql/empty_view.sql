-- Grain: none; the table has no file yet, and a view over no file would be an error.
SELECT $columns
FROM (SELECT $nothing)
WHERE false
