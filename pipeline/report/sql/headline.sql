-- Grain: one row per period of one account: the recent one, the last settled week and the week before it.
-- The recent period begins with the first hour of the last days that was scanned before its deadline, and ends with
-- the latest scan. A settled week is 7 consecutive days of final or closed hours. The week before it is included
-- only if it is settled too.
-- The two rates under exclusive counting are for an account whose reading is cumulative.
-- Sums are over known hours. A rate over lost hours is NULL.
WITH slots AS (
    SELECT
        created_date,
        slot,
        state,
        as_of,
        state IN ('final', 'closed') AS is_settled,
        state IN ('open', 'at_risk') AS is_changing,
        covered_at IS NOT NULL AND state NOT IN ('before_archive', 'gap') AS is_known
    FROM coverage_slots
    WHERE account_id = $account
),
days AS (
    SELECT created_date, count(*) FILTER (is_settled) = 24 AS is_whole
    FROM slots
    GROUP BY created_date
),
weeks AS (
    SELECT
        created_date AS last_day,
        count(*) FILTER (is_whole) OVER (ORDER BY created_date ROWS 6 PRECEDING) = 7 AS is_settled
    FROM days
),
last_week AS (
    SELECT max(last_day) AS last_day FROM weeks WHERE is_settled
),
periods AS (
    SELECT 'recent' AS period, max(created_date) - $days::INTEGER + 1 AS first_day, max(created_date) AS last_day
    FROM days
    UNION ALL
    SELECT 'settled', last_day - 6, last_day FROM last_week WHERE last_day IS NOT NULL
    UNION ALL
    SELECT 'settled_before', weeks.last_day - 6, weeks.last_day
    FROM weeks
    JOIN last_week ON weeks.last_day = last_week.last_day - 7
    WHERE weeks.is_settled
),
begun AS (
    SELECT period, first_day, last_day, min(slot) FILTER (is_known) AS first_hour
    FROM periods
    JOIN slots ON created_date BETWEEN first_day AND last_day
    GROUP BY ALL
),
sums AS (
    SELECT
        period,
        first_day,
        last_day,
        first_hour,
        max(as_of) AS as_of,
        bool_or(is_changing) AS is_changing,
        count(DISTINCT slot) FILTER (state = 'gap') AS lost_hours,
        count(DISTINCT slot) FILTER (is_changing AND NOT is_known) AS unscanned_hours,
        coalesce(sum(operations) FILTER (is_known), 0)::BIGINT AS operations,
        coalesce(sum(total) FILTER (is_known), 0)::BIGINT AS emails,
        sum(rated_attempted) FILTER (is_known)::BIGINT AS attempted,
        sum(rated_delivered) FILTER (is_known)::BIGINT AS delivered,
        sum(rated_opened) FILTER (is_known)::BIGINT AS opened,
        sum(rated_undelivered) FILTER (is_known)::BIGINT AS undelivered,
        sum(rated_failed) FILTER (is_known)::BIGINT AS failed
    FROM begun
    JOIN slots ON created_date BETWEEN first_day AND last_day AND slot >= first_hour
    LEFT JOIN (FROM delivery_hourly WHERE account_id = $account) AS hourly ON hour = slot
    GROUP BY ALL
)
SELECT
    * EXCLUDE (attempted, delivered, opened, undelivered, failed),
    CASE WHEN lost_hours = 0 THEN delivered / nullif(attempted, 0) END AS delivery_rate,
    CASE WHEN lost_hours = 0 THEN opened / nullif(delivered, 0) END AS open_rate,
    CASE WHEN lost_hours = 0 THEN (delivered + opened) / nullif(attempted, 0) END
        AS delivery_rate_exclusive,
    CASE WHEN lost_hours = 0 THEN opened / nullif(delivered + opened, 0) END AS open_rate_exclusive,
    CASE WHEN lost_hours = 0 THEN undelivered / nullif(attempted, 0) END AS undelivered_rate,
    CASE WHEN lost_hours = 0 THEN failed / nullif(attempted, 0) END AS failure_rate
FROM sums
ORDER BY period
