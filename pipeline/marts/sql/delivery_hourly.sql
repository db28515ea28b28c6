-- Grain: one row per hour of creation and status, of one account's day.
SELECT
    hour,
    status,
    $sums
FROM counted
GROUP BY hour, status
ORDER BY hour, status
