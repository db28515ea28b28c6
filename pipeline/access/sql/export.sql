-- Grain: that of the table.
-- Its rows in a range of time.
SELECT $columns
FROM $table
WHERE $bounds
