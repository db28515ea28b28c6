-- Grain: one row per account with a final hour whose operations have all passed the last age.
-- The newest such hour.
SELECT account_id, max(hour) AS newest_hour
FROM delivery_hourly
JOIN (SELECT account_id, max(as_of) AS as_of FROM coverage_slots GROUP BY account_id)
    USING (account_id)
WHERE completeness = 'final'
    AND rated_operations > 0
    AND hour + INTERVAL 1 HOUR + to_minutes($last_age) <= as_of
GROUP BY account_id
