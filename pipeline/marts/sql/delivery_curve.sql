-- Grain: one row per hour of creation and age, of one account's day.
-- What was known of the operations when they were of that age: the sum of everything that states which
-- were first seen by then had added. It comes from history alone, so a scan that finds nothing new
-- changes nothing here; when the hour was looked at comes from coverage, in the warehouse's view.
WITH ages AS (
    SELECT * FROM (VALUES $ages) AS ages (age_minutes)
),
hours AS (
    SELECT hour, sum(operations) AS hour_operations FROM steps GROUP BY hour
)
SELECT
    hour,
    age_minutes,
    nullif(sum(operations) OVER by_then, 0) AS operations,
    nullif(sum(rated_operations) OVER by_then, 0) AS rated_operations,
    $known,
    hour_operations
FROM hours
CROSS JOIN ages
LEFT JOIN steps USING (hour, age_minutes)
WINDOW by_then AS (PARTITION BY hour ORDER BY age_minutes)
ORDER BY hour, age_minutes
