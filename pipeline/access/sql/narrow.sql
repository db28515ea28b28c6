-- Grain: one row per table, view and macro of the warehouse with account_id.
-- Statements, without their WHERE, that make temporary views and macros of the same names, which DuckDB finds first.
SELECT
    'CREATE TEMP VIEW "' || table_name || '" AS FROM "' || database_name || '".main."' || table_name
        || '"' AS statement
FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = 'main' AND column_name = 'account_id'
UNION ALL
SELECT
    'CREATE TEMP MACRO "' || function_name || '"(moment) AS TABLE FROM "' || database_name || '".main."'
        || function_name || '"(moment)'
FROM duckdb_functions()
WHERE database_name = current_database() AND schema_name = 'main' AND function_type = 'table_macro'
