-- Grain: none; the tables of a merge, empty: the ids that scans saw, and the states with news in them. `states`
-- and `newest` are of the current piece alone: all states of the operations with news, and the newest of these.
CREATE OR REPLACE TEMP TABLE seen (operation_id VARCHAR);
CREATE OR REPLACE TEMP TABLE all_news ($typed_columns);
DROP TABLE IF EXISTS states;
DROP TABLE IF EXISTS newest;
