-- Grain: one row per account, UTC day of creation and size class.
-- The mart with the completeness of each day.
SELECT
    sizes.*,
    completeness($slots) AS completeness
FROM collected.operation_sizes AS sizes
LEFT JOIN collected.slot_counts USING (account_id, created_date)
