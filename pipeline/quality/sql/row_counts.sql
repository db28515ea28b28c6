-- Grain: one row per account.
-- The number of rows of a table, from the footers of its files.
SELECT account_id, count(*) AS row_count
FROM $table
GROUP BY account_id
