-- Grain: one row per account, hour of creation and status.
SELECT * FROM hourly
