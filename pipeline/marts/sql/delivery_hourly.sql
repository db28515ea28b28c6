-- Grain: one row per hour of creation and status, of one account's day.
-- Sums skip counts that are absent; the rated_ columns sum only operations that are rated.
SELECT
    date_trunc('hour', created_at) AS hour,
    status,
    count(*) AS operations,
    $sums
FROM rated
GROUP BY hour, status
ORDER BY hour, status
