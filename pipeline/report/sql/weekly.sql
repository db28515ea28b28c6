-- Grain: one row per UTC week of one account, from its first operation on.
-- Shown instead of days if there are too many days.
SELECT
    week AS period,
    completeness,
    168 AS hours,
    168 - before_archive_slots AS archived_hours,
    gap_slots AS lost_hours,
    operations,
    coalesce(total, 0) AS emails,
    delivery_rate,
    open_rate,
    undelivered_rate,
    failure_rate
FROM delivery_weekly
WHERE account_id = $account
ORDER BY period
