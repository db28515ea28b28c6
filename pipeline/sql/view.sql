-- Grain: that of the lake's table. The hive keys get one type, whatever reader comes. A column that came
-- after a file was written is NULL in it.
SELECT $columns
FROM (
    SELECT $nothing WHERE false
    UNION ALL BY NAME
    FROM ($rows)
)
