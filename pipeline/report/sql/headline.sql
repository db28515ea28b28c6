-- Grain: one row per period of one account: the last days and the last 7 that nothing can change any
-- more, each with the period before it.
-- Sums over sums. A rate over lost data is none, and a period that the archive does not have whole is
-- partial: it is no measure of the other.
WITH days AS (
    SELECT
        created_date,
        open_slots + at_risk_slots AS changing_slots,
        coverage_days.final_slots,
        coverage_days.closed_slots,
        coverage_days.gap_slots,
        coverage_days.never_asked_slots,
        operations,
        total,
        rated_attempted,
        rated_opened,
        rated_undelivered,
        rated_failed,
        rated_delivered
    FROM coverage_days
    LEFT JOIN delivery_daily USING (account_id, created_date)
    WHERE account_id = $account
),
ends AS (
    SELECT
        max(created_date) AS last_day,
        max(created_date) FILTER (changing_slots = 0) AS last_settled_day
    FROM days
),
periods AS (
    SELECT 'recent' AS period, $days::INTEGER AS length, last_day FROM ends
    UNION ALL
    SELECT 'recent_before', $days::INTEGER, last_day - $days::INTEGER FROM ends
    UNION ALL
    SELECT 'settled', 7, last_settled_day FROM ends
    UNION ALL
    SELECT 'settled_before', 7, last_settled_day - 7 FROM ends
),
sums AS (
    SELECT
        period,
        periods.last_day,
        length,
        count(created_date) AS covered_days,
        sum(changing_slots) AS changing,
        sum(final_slots) AS finals,
        sum(closed_slots) AS closed,
        sum(gap_slots) AS gaps,
        sum(never_asked_slots) AS never_asked,
        coalesce(sum(operations), 0)::BIGINT AS operations,
        coalesce(sum(total), 0)::BIGINT AS emails,
        sum(rated_attempted)::BIGINT AS attempted,
        sum(rated_delivered)::BIGINT AS delivered,
        sum(rated_opened)::BIGINT AS opened,
        sum(rated_undelivered)::BIGINT AS undelivered,
        sum(rated_failed)::BIGINT AS failed
    FROM periods
    LEFT JOIN days
        ON created_date > periods.last_day - length AND created_date <= periods.last_day
    GROUP BY ALL
),
judged AS (
    SELECT
        *,
        CASE
            WHEN gaps > 0 OR covered_days = 0 THEN 'gaps'
            WHEN changing > 0 THEN 'changing'
            WHEN never_asked > 0 OR covered_days < length THEN 'partial'
            WHEN closed > 0 THEN 'closed'
            ELSE 'final'
        END AS completeness,
        covered_days < length OR never_asked > 0 AS is_cut
    FROM sums
)
SELECT
    period,
    last_day - length + 1 AS first_day,
    last_day,
    completeness,
    is_cut,
    operations,
    emails,
    CASE WHEN completeness <> 'gaps' THEN delivered / nullif(attempted, 0) END AS delivery_rate,
    CASE WHEN completeness <> 'gaps' THEN opened / nullif(delivered, 0) END AS open_rate,
    CASE WHEN completeness <> 'gaps' THEN undelivered / nullif(attempted, 0) END AS undelivered_rate,
    CASE WHEN completeness <> 'gaps' THEN failed / nullif(attempted, 0) END AS failure_rate
FROM judged
ORDER BY period
