-- Grain: that of the inner query.
-- Selects the columns of the schema, in its order and with its types.
SELECT $columns
FROM (
    $query
)
