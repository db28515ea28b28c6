-- Grain: one row per question about the counts, of one account's day.
-- An operation is evidence if its counts are possible under one reading alone. Under the exclusive
-- reading each email is in one count, so parts can't add up to more than total; under the cumulative
-- one an opened email is also delivered, and a delivered one also sent.
WITH parts AS (
    SELECT
        *,
        delivered > 0 AND opened > delivered AS opened_apart,
        queued + scheduled + delivered + opened + undelivered + failed + canceled > total
            AS opened_within,
        sent < delivered AS delivered_apart,
        queued + scheduled + sent + greatest(delivered, opened) + undelivered + failed + canceled
            > total AS delivered_within
    FROM operations
)
SELECT
    'opened_in_delivered' AS question,
    count(*) FILTER (opened_within AND NOT opened_apart) AS cumulative_operations,
    count(*) FILTER (opened_apart) AS exclusive_operations,
    min(operation_id) FILTER (opened_within AND NOT opened_apart) AS cumulative_example,
    min(operation_id) FILTER (opened_apart) AS exclusive_example
FROM parts
UNION ALL
SELECT
    'delivered_in_sent' AS question,
    count(*) FILTER (delivered_within AND NOT delivered_apart) AS cumulative_operations,
    count(*) FILTER (delivered_apart) AS exclusive_operations,
    min(operation_id) FILTER (delivered_within AND NOT delivered_apart) AS cumulative_example,
    min(operation_id) FILTER (delivered_apart) AS exclusive_example
FROM parts
