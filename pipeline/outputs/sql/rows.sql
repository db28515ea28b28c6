-- Grain: that of the lake's table. The hive keys are taken from the end of each file's path: DuckDB's own hive
-- partitioning would take `key=value` from the folders above the archive too. Columns are found by name, and one
-- that came after a file was written is NULL there, without any file being opened for it.
SELECT $columns
FROM (
    SELECT
        * EXCLUDE (filename),
        filename[-73:-40] AS account_id,
        filename[-25:-16]::DATE AS created_date
    FROM read_parquet($files, schema = MAP {$schema}, hive_partitioning = false, filename = true)
)
