-- Grain: one row per hour of creation and age, of one account's day.
-- What was known of the operations at that age: the sum over the states in effect. It is derived from history
-- alone, so a scan without changes does not change it. The warehouse's view adds the times of scans, from coverage.
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
