-- Grain: one row per hour of creation and age, of one account's day.
-- What was known of the operations when they were of that age: the sum over the states that were in effect. It
-- comes from history alone, so a scan that finds nothing new changes nothing here; when the hour was scanned
-- comes from coverage, in the warehouse's view.
WITH known AS (
    SELECT *, seen_age <= age AND (superseded_age > age OR superseded_age IS NULL) AS is_in_effect
    FROM counted_states
    CROSS JOIN (VALUES $ages) AS ages (age)
)
SELECT
    hour,
    age AS age_minutes,
    sum(operations) FILTER (is_in_effect) AS operations,
    sum(operations) FILTER (is_in_effect AND is_rated) AS rated_operations,
    $known,
    sum(operations) FILTER (is_newest) AS hour_operations
FROM known
GROUP BY hour, age
ORDER BY hour, age
