-- Grain: one row per hour of creation and age, of one account's day.
-- What was known of the operations when they were of that age: the sum of everything that states which
-- were first seen by then had added. It comes from history alone, so a scan that finds nothing new
-- changes nothing here; when the hour was looked at comes from coverage, in the warehouse's view.
SELECT
    hour,
    age AS age_minutes,
    nullif(sum(operations) FILTER (age_minutes <= age), 0) AS operations,
    nullif(sum(rated_operations) FILTER (age_minutes <= age), 0) AS rated_operations,
    $known,
    sum(operations) AS hour_operations
FROM steps
CROSS JOIN (VALUES $ages) AS ages (age)
GROUP BY hour, age
ORDER BY hour, age
