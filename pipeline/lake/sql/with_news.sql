-- Grain: one row per distinct state of the operations with news.
SELECT $columns FROM history SEMI JOIN news USING (operation_id)
