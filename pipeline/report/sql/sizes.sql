-- Grain: one row per size class of one account.
-- Sums over the last $days days that are known from their first hour on and have no lost hours.
WITH whole AS (
    SELECT created_date
    FROM coverage_days
    WHERE account_id = $account
        AND gap_slots + before_archive_slots = 0
        AND created_date
            > (SELECT max(created_date) FROM coverage_days WHERE account_id = $account)
            - $days::INTEGER
),
days AS (
    SELECT
        size_class,
        smallest,
        operations,
        total,
        rated_attempted,
        rated_opened,
        rated_undelivered,
        rated_failed,
        rated_delivered
    FROM operation_sizes
    JOIN whole USING (created_date)
    WHERE account_id = $account
),
period AS (
    SELECT min(created_date) AS first_day, max(created_date) AS last_day, count(*) AS days FROM whole
)
SELECT
    size_class,
    smallest,
    any_value(first_day) AS first_day,
    any_value(last_day) AS last_day,
    any_value(period.days) AS days,
    sum(operations)::BIGINT AS operations,
    coalesce(sum(total), 0)::BIGINT AS emails,
    sum(rated_delivered) / nullif(sum(rated_attempted), 0) AS delivery_rate,
    sum(rated_opened) / nullif(sum(rated_delivered), 0) AS open_rate,
    sum(rated_undelivered) / nullif(sum(rated_attempted), 0) AS undelivered_rate,
    sum(rated_failed) / nullif(sum(rated_attempted), 0) AS failure_rate
FROM days
CROSS JOIN period
GROUP BY size_class, smallest
ORDER BY smallest NULLS LAST
