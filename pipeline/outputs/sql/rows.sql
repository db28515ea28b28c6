-- Grain: that of the lake's table.
-- The rows of its files, with the hive keys from the end of each path: DuckDB's hive partitioning would also read
-- `key=value` in the folders above the archive. Columns are matched by name; one that a file lacks is NULL, and no
-- file is opened to find out.
SELECT $columns
FROM (
    SELECT
        * EXCLUDE (filename),
        filename[-73:-40] AS account_id,
        filename[-25:-16]::DATE AS created_date
    FROM read_parquet($files, schema = MAP {$schema}, hive_partitioning = false, filename = true)
)
