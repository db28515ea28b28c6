-- Grain: none; creates the temporary tables of a merge, empty: the ids that scans returned, and the changed states.
-- `states` and `newest` hold the current piece: all states of the operations with changed states, and the newest of
-- each of these operations.
CREATE OR REPLACE TEMP TABLE seen (operation_id VARCHAR);
CREATE OR REPLACE TEMP TABLE all_changed_states ($typed_columns);
DROP TABLE IF EXISTS states;
DROP TABLE IF EXISTS newest;
