-- Grain: that of the lake's table. The hive keys get one type, whatever reader comes.
SELECT $columns
FROM read_parquet(
    $files,
    hive_partitioning = true,
    hive_types = {'account_id': VARCHAR, 'created_date': DATE}
)
