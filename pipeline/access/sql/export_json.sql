-- Grain: that of the inner query.
-- Each row as one JSON object.
SELECT to_json(exported)::VARCHAR AS line
FROM (
    $query
) AS exported
