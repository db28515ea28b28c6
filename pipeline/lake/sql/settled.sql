-- Grain: one row: how many states the operations with news have in the current piece, how many operations
-- these are, and how many of the states history lacks.
SELECT
    count(*) AS states,
    count(DISTINCT operation_id) AS operations,
    count(*) FILTER (is_changed) AS changed
FROM states
