-- Grain: one row per question about the counts, of one account's day.
-- An operation is evidence if its counts are possible under one reading alone. Under the exclusive
-- reading each email is in one count, so parts can't add up to more than total; under the cumulative
-- one an opened email is also delivered, and a delivered one also sent.
-- In doubles, which are exact for far more emails than there are, and have room for any count.
WITH parts AS (
    SELECT
        operation_id,
        delivered > 0 AND opened > delivered AS opened_apart,
        queued::DOUBLE + scheduled + delivered + opened + undelivered + failed + canceled > total
            AS opened_within,
        sent < delivered AS delivered_apart,
        queued::DOUBLE + scheduled + sent + greatest(delivered, opened) + undelivered + failed + canceled
            > total AS delivered_within
    FROM operations
),
evidence AS (
    SELECT
        count(*) FILTER (opened_within AND NOT opened_apart) AS opened_within,
        count(*) FILTER (opened_apart) AS opened_apart,
        min(operation_id) FILTER (opened_within AND NOT opened_apart) AS opened_within_example,
        min(operation_id) FILTER (opened_apart) AS opened_apart_example,
        count(*) FILTER (delivered_within AND NOT delivered_apart) AS delivered_within,
        count(*) FILTER (delivered_apart) AS delivered_apart,
        min(operation_id) FILTER (delivered_within AND NOT delivered_apart) AS delivered_within_example,
        min(operation_id) FILTER (delivered_apart) AS delivered_apart_example
    FROM parts
)
SELECT
    'opened_in_delivered' AS question,
    opened_within AS cumulative_operations,
    opened_apart AS exclusive_operations,
    opened_within_example AS cumulative_example,
    opened_apart_example AS exclusive_example
FROM evidence
UNION ALL
SELECT
    'delivered_in_sent' AS question,
    delivered_within AS cumulative_operations,
    delivered_apart AS exclusive_operations,
    delivered_within_example AS cumulative_example,
    delivered_apart_example AS exclusive_example
FROM evidence
