-- Grain: one row per ISO weekday and hour of creation in UTC of one account: 168.
-- Figures are NULL, not 0, if no such hour is final or closed yet. The hours are known for different numbers of
-- weeks, so they are compared by their means.
SELECT
    weekday,
    hour,
    coalesce(final_slots + closed_slots, 0) AS known_hours,
    CASE WHEN known_hours > 0 THEN operations END AS operations,
    CASE WHEN known_hours > 0 THEN coalesce(total, 0) END AS emails,
    operations / nullif(known_hours, 0) AS operations_per_hour,
    rated_delivered AS delivered,
    delivery_rate,
    open_rate
FROM delivery_by_weekday_hour
WHERE account_id = $account
ORDER BY weekday, hour
