-- Grain: that of the table. One day's file; columns added after it was written are NULL.
SELECT $columns
FROM read_parquet($file, hive_partitioning = false)
