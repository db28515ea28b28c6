-- Grain: that of the lake's table. The hive keys get one type, whatever reader comes. A column that came
-- after a file was written is NULL in it.
SELECT $columns
FROM (
    SELECT $nothing WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        $files,
        union_by_name = true,
        hive_partitioning = true,
        hive_types = {'account_id': VARCHAR, 'created_date': DATE}
    )
)
