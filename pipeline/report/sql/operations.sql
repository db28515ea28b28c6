-- Grain: one row per account, band of days and period that has the band. Band 1 is the shortest period, 2 what the
-- next one has beyond it, ...; $firsts has the first day of each period, the shortest first.
-- worst: the $most operations with the most lost emails (undelivered or failed) beyond the account's average rate of
-- the period. An unknown count of lost emails is 0 there, and unknown attempted emails are all emails, so that the
-- excess is not overstated. Without any rated email, the average is 0.
-- Only in the row of the shortest period that has the band, as they are the same in all: the $most largest operations,
-- how many have failed emails, and how many of these a known reason.
-- Operations with a count above $largest are left out, as in the rates. No file of another account is opened.
WITH reasons AS (
    SELECT DISTINCT account_id, operation_id, true AS has_reason
    FROM operation_errors
    WHERE list_contains($accounts::VARCHAR[], account_id)
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
        CASE WHEN lost > 0 THEN coalesce(attempted, emails, lost) END AS lost_of,
        coalesce(has_reason, false) AS has_reason
    FROM operations
    LEFT JOIN reasons USING (account_id, operation_id)
    LEFT JOIN readings USING (account_id)
    WHERE list_contains($accounts::VARCHAR[], account_id)
        AND created_date >= $firsts[-1]
        AND greatest(total, delivered, opened, undelivered, failed, canceled, queued, scheduled) <= $largest
),
averages AS (
    SELECT
        accounts.account_id,
        period,
        coalesce((sum(rated_undelivered) + sum(rated_failed)) / nullif(sum(rated_attempted), 0), 0) AS average
    FROM (SELECT unnest($accounts) AS account_id) AS accounts
    CROSS JOIN (SELECT unnest($firsts) AS first_day, generate_subscripts($firsts, 1) AS period)
    LEFT JOIN delivery_daily AS days ON days.account_id = accounts.account_id AND created_date >= first_day
    GROUP BY ALL
),
ranked AS (
    SELECT
        known.*,
        period,
        period = band AS is_first,
        round(lost - average * lost_of, 6) AS excess
    FROM known
    JOIN averages ON averages.account_id = known.account_id
        AND (period = band OR (period > band AND lost > 0))
)
SELECT
    account_id,
    band,
    period,
    max_by(ranked, row(emails, created_at, operation_id), $most) FILTER (is_first AND emails > 0) AS largest,
    max_by(ranked, row(excess, created_at, operation_id), $most) FILTER (excess >= 0) AS worst,
    count(*) FILTER (is_first AND failed > 0) AS with_failed,
    count(*) FILTER (is_first AND failed > 0 AND has_reason) AS with_reason
FROM ranked
GROUP BY account_id, band, period
ORDER BY account_id, band, period
