-- Grain: one row per size class of one account, over the last so many days without lost hours.
WITH days AS (
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
    WHERE account_id = $account
        AND completeness <> 'gaps'
        AND created_date
            > (SELECT max(created_date) FROM coverage_days WHERE account_id = $account)
            - $days::INTEGER
)
SELECT
    size_class,
    smallest,
    sum(operations)::BIGINT AS operations,
    coalesce(sum(total), 0)::BIGINT AS emails,
    sum(rated_delivered) / nullif(sum(rated_attempted), 0) AS delivery_rate,
    sum(rated_opened) / nullif(sum(rated_delivered), 0) AS open_rate,
    sum(rated_undelivered) / nullif(sum(rated_attempted), 0) AS undelivered_rate,
    sum(rated_failed) / nullif(sum(rated_attempted), 0) AS failure_rate
FROM days
GROUP BY size_class, smallest
ORDER BY smallest NULLS LAST
