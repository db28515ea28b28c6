-- Grain: one row per account. DuckDB takes the counts from the files' footers.
SELECT account_id, count(*) AS row_count
FROM $table
GROUP BY account_id
