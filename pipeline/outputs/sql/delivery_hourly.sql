-- Grain: one row per account, hour of creation and status.
-- The mart with the completeness of each hour.
SELECT
    hourly.*,
    completeness(
        (state = 'final')::INT,
        (state = 'closed')::INT,
        (state IN ('open', 'at_risk'))::INT,
        (state = 'gap')::INT,
        0
    ) AS completeness
FROM collected.delivery_hourly AS hourly
LEFT JOIN slots ON slots.account_id = hourly.account_id AND slots.slot = hourly.hour
