-- Grain: one row per ISO weekday and hour of creation in UTC of one account: 168.
SELECT weekday, hour, operations, total AS emails, rated_delivered AS delivered, delivery_rate, open_rate
FROM delivery_by_weekday_hour
WHERE account_id = $account
ORDER BY weekday, hour
