-- Grain: one row. What folding changed in operations.
SELECT
    (SELECT count(*) FROM after) - (SELECT count(*) FROM before) AS new,
    (SELECT count(*) FROM (SELECT * FROM after EXCEPT SELECT * FROM before)) AS new_or_changed,
    (SELECT count(DISTINCT operation_id) FROM landed) AS seen
