-- Grain: none.
-- A table without files has no rows; DuckDB refuses a view of no files.
SELECT $nothing
WHERE false
