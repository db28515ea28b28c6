-- Grain: that of the table. One day's file; a column that came after it was written is NULL.
SELECT $columns
FROM read_parquet($file, hive_partitioning = false)
