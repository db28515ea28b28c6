-- Grain: that of the query inside. The columns of schema.py, in its order and with its types.
SELECT $columns
FROM (
    $query
)
