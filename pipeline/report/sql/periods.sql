-- Grain: one row per period of the accounts together: the last days by their number, all days, the last settled
-- week and the week before it.
-- A period of days ends with $last_day and begins with the first hour in it that was scanned before its deadline,
-- or lost, by account. Nothing begins before the first operation or lost hour. A settled week is 7 consecutive days of
-- final or closed hours. The week before it is included only if it is settled too.
-- The two rates under exclusive counting are for an account whose reading is cumulative.
-- Sums are over known hours. A rate over lost hours is NULL.
WITH begins AS (
    SELECT least(
        (
            SELECT min(created_date)
            FROM delivery_daily
            WHERE operations > 0 AND account_id IN (SELECT unnest($accounts))
        ),
        (
            SELECT min(created_date)
            FROM coverage_slots
            WHERE state = 'gap' AND account_id IN (SELECT unnest($accounts))
        )
    ) AS first_day
),
slots AS (
    SELECT
        account_id,
        created_date,
        slot,
        as_of,
        state = 'gap' AS is_lost,
        state IN ('final', 'closed') AS is_settled,
        state IN ('open', 'at_risk') AS is_changing,
        covered_at IS NOT NULL AND state NOT IN ('before_archive', 'gap') AS is_known
    FROM coverage_slots
    WHERE account_id IN (SELECT unnest($accounts))
        AND created_date >= (SELECT first_day FROM begins)
),
hourly AS (
    SELECT
        account_id,
        hour AS slot,
        sum(operations) AS operations,
        sum(rated_operations) AS rated_operations,
        sum(total) AS total,
        sum(queued) AS queued,
        sum(scheduled) AS scheduled,
        sum(canceled) AS canceled,
        sum(rated_attempted) AS attempted,
        sum(rated_delivered) AS delivered,
        sum(rated_opened) AS opened,
        sum(rated_undelivered) AS undelivered,
        sum(rated_failed) AS failed
    FROM delivery_hourly
    WHERE account_id IN (SELECT unnest($accounts))
    GROUP BY account_id, hour
),
weeks AS (
    SELECT
        created_date AS last_day,
        count(*) FILTER (is_whole) OVER (ORDER BY created_date ROWS 6 PRECEDING) = 7 AS is_settled
    FROM (
        SELECT
            created_date,
            count(*) FILTER (is_settled) = 24 * count(DISTINCT account_id) AS is_whole
        FROM slots
        GROUP BY created_date
    )
),
last_week AS (
    SELECT max(last_day) AS last_day FROM weeks WHERE is_settled
),
periods AS (
    SELECT
        key AS period,
        CASE WHEN key = 'all' THEN (SELECT min(created_date) FROM slots)
            ELSE $last_day::DATE - key::INTEGER + 1
        END AS first_day,
        $last_day::DATE AS last_day
    FROM (SELECT unnest($periods) AS key)
    UNION ALL
    SELECT 'settled', last_day - 6, last_day FROM last_week WHERE last_day IS NOT NULL
    UNION ALL
    SELECT 'settled_before', weeks.last_day - 6, weeks.last_day
    FROM weeks
    JOIN last_week ON weeks.last_day = last_week.last_day - 7
    WHERE weeks.is_settled
),
begun AS (
    SELECT period, first_day, last_day, account_id, min(slot) FILTER (is_known OR is_lost) AS first_hour
    FROM periods
    JOIN slots ON created_date BETWEEN first_day AND last_day
    GROUP BY ALL
),
sums AS (
    SELECT
        period,
        first_day,
        last_day,
        min(first_hour) AS first_hour,
        max(as_of) AS as_of,
        bool_or(is_changing) AS is_changing,
        count(*) FILTER (is_lost) AS lost_hours,
        count(*) FILTER (is_changing AND NOT is_known) AS unscanned_hours,
        coalesce(sum(operations) FILTER (is_known), 0)::BIGINT AS operations,
        coalesce(sum(rated_operations) FILTER (is_known), 0)::BIGINT AS rated_operations,
        coalesce(sum(total) FILTER (is_known), 0)::BIGINT AS emails,
        sum(queued) FILTER (is_known)::BIGINT AS queued,
        sum(scheduled) FILTER (is_known)::BIGINT AS scheduled,
        sum(canceled) FILTER (is_known)::BIGINT AS canceled,
        sum(attempted) FILTER (is_known)::BIGINT AS attempted,
        sum(delivered) FILTER (is_known)::BIGINT AS delivered,
        sum(opened) FILTER (is_known)::BIGINT AS opened,
        sum(undelivered) FILTER (is_known)::BIGINT AS undelivered,
        sum(failed) FILTER (is_known)::BIGINT AS failed
    FROM begun
    JOIN slots USING (account_id)
    LEFT JOIN hourly USING (account_id, slot)
    WHERE created_date BETWEEN first_day AND last_day AND slot >= first_hour
    GROUP BY period, first_day, last_day
)
SELECT
    *,
    CASE WHEN lost_hours = 0 THEN delivered / nullif(attempted, 0) END AS delivery_rate,
    CASE WHEN lost_hours = 0 THEN opened / nullif(delivered, 0) END AS open_rate,
    CASE WHEN lost_hours = 0 THEN (delivered + opened) / nullif(attempted, 0) END
        AS delivery_rate_exclusive,
    CASE WHEN lost_hours = 0 THEN opened / nullif(delivered + opened, 0) END AS open_rate_exclusive,
    CASE WHEN lost_hours = 0 THEN undelivered / nullif(attempted, 0) END AS undelivered_rate,
    CASE WHEN lost_hours = 0 THEN failed / nullif(attempted, 0) END AS failure_rate
FROM sums
ORDER BY period
