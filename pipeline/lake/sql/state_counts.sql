-- Grain: one row: of the operations with changed states in the current piece, the number of states, of operations,
-- and of states to be written to history.
SELECT
    count(*) AS states,
    count(DISTINCT operation_id) AS operations,
    count(*) FILTER (is_changed) AS changed
FROM states
