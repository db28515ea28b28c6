-- Grain: that of the lake's table, with the hive keys.
FROM read_parquet(
    $files,
    union_by_name = $differ,
    hive_partitioning = true,
    hive_types = {'account_id': VARCHAR, 'created_date': DATE}
)
