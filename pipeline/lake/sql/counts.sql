-- Grain: one row: the number of operations that scans returned, and of changed states.
SELECT
    (SELECT count(DISTINCT operation_id) FROM seen) AS seen,
    (SELECT count(*) FROM all_changed_states) AS changed_states
