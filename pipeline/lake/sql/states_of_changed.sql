-- Grain: one row per distinct state of the operations with changed states.
SELECT $columns FROM history SEMI JOIN changed_states USING (operation_id)
