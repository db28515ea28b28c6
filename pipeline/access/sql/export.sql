-- Grain: that of the table.
SELECT $columns
FROM $table
WHERE $bounds
