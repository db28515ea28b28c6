-- Grain: none; defines the current piece of a day: ids from `first_id` on and before `end_id`, or all if that is NULL.
CREATE OR REPLACE TEMP MACRO is_in_piece(id) AS
    id >= getvariable('first_id')
    AND (getvariable('end_id') IS NULL OR id < getvariable('end_id'));
CREATE OR REPLACE TEMP VIEW changed_states AS FROM all_changed_states WHERE is_in_piece(operation_id);
