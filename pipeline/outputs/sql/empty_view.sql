-- Grain: none; the table has no file yet, and a view over no file would be an error.
SELECT $nothing
WHERE false
