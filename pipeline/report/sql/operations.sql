-- Grain: one row per account and band of days: 1 is the shortest period, 2 what the next one has beyond it, ...
-- $firsts has the first day of each period, the shortest first. Of each band, the $most largest operations and the
-- $most with the most emails that were undelivered or failed, and how many operations have failed emails and how
-- many of these a known reason. Operations with a count above $largest are left out, as in the rates.
WITH reasons AS (
    SELECT DISTINCT account_id, operation_id, true AS has_reason FROM operation_errors
),
readings AS (
    SELECT account_id, reading = 'exclusive' AS is_exclusive
    FROM counting
    WHERE question = 'opened_in_delivered'
),
known AS (
    SELECT
        account_id,
        list_position(list_transform($firsts, lambda first: created_date >= first), true) AS band,
        operation_id,
        created_at,
        status,
        total AS emails,
        total - canceled - scheduled - queued AS attempted,
        delivered + CASE WHEN is_exclusive THEN opened ELSE 0 END AS delivered,
        opened,
        undelivered,
        failed,
        coalesce(undelivered, 0) + coalesce(failed, 0) AS lost,
        coalesce(has_reason, false) AS has_reason
    FROM operations
    LEFT JOIN reasons USING (account_id, operation_id)
    LEFT JOIN readings USING (account_id)
    WHERE account_id IN (SELECT unnest($accounts))
        AND created_date >= $firsts[-1]
        AND greatest(total, delivered, opened, undelivered, failed, canceled, queued, scheduled) <= $largest
)
SELECT
    account_id,
    band,
    max_by(known, row(emails, created_at, operation_id), $most) FILTER (emails > 0) AS largest,
    max_by(known, row(lost, created_at, operation_id), $most) FILTER (lost > 0) AS worst,
    count(*) FILTER (failed > 0) AS with_failed,
    count(*) FILTER (failed > 0 AND has_reason) AS with_reason
FROM known
GROUP BY account_id, band
ORDER BY account_id, band
