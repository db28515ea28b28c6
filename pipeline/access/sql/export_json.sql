-- Grain: that of the query inside: each row as one JSON object.
SELECT to_json(exported)::VARCHAR AS line
FROM (
    $query
) AS exported
