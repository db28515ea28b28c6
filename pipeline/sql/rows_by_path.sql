-- Grain: that of the lake's table, with the hive keys. They are taken from the last folders of each path: DuckDB
-- itself would take `key=value` from the folders above the archive too.
SELECT
    * EXCLUDE (filename),
    split_part(split_part(filename, '/', -3), '=', 2) AS account_id,
    split_part(split_part(filename, '/', -2), '=', 2)::DATE AS created_date
FROM read_parquet($files, union_by_name = $differ, hive_partitioning = false, filename = true)
