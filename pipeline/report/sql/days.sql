-- Grain: one row per UTC day, from the first operation of one of the accounts to their latest scan.
-- Days without operations are 0; lost days are included. A day without operations takes its completeness from its
-- slots. Sums over several accounts are as complete as the least known one; an account counts from its first
-- operation on. delivered is under each account's reading of the counts, and the counts from attempted to failed
-- are those of the operations that the rates use.
WITH begun AS (
    SELECT account_id, min(created_date) AS first_day
    FROM delivery_daily
    WHERE account_id IN (SELECT unnest($accounts))
    GROUP BY account_id
),
days AS (
    SELECT
        delivery_daily.*,
        created_date AS day,
        coverage_days.before_archive_slots AS unarchived,
        coverage_days.gap_slots AS lost,
        CASE
            WHEN coverage_days.before_archive_slots = 24 THEN 'before'
            WHEN completeness IS NOT NULL THEN completeness
            WHEN coverage_days.gap_slots > 0 THEN 'gaps'
            WHEN open_slots + at_risk_slots > 0 THEN 'changing'
            WHEN coverage_days.before_archive_slots > 0 THEN 'partial'
            WHEN coverage_days.closed_slots > 0 THEN 'closed'
            ELSE 'final'
        END AS known
    FROM coverage_days
    JOIN begun USING (account_id)
    LEFT JOIN delivery_daily USING (account_id, created_date)
    WHERE created_date >= first_day
),
sums AS (
    SELECT
        day AS period,
        $states[max(list_position($states, known))] AS completeness,
        24 * count(*) AS hours,
        24 * count(*) - sum(unarchived)::BIGINT AS archived_hours,
        sum(lost)::BIGINT AS lost_hours,
        coalesce(sum(operations), 0)::BIGINT AS operations,
        coalesce(sum(total), 0)::BIGINT AS emails,
        sum(rated_attempted)::BIGINT AS attempted,
        sum(rated_delivered)::BIGINT AS delivered,
        sum(rated_opened)::BIGINT AS opened,
        sum(rated_undelivered)::BIGINT AS undelivered,
        sum(rated_failed)::BIGINT AS failed,
        sum(canceled)::BIGINT AS canceled
    FROM days
    GROUP BY day
)
SELECT
    *,
    CASE WHEN completeness <> 'gaps' THEN nullif(attempted, 0) END AS rated,
    delivered / rated AS delivery_rate,
    CASE WHEN completeness <> 'gaps' THEN opened / nullif(delivered, 0) END AS open_rate,
    undelivered / rated AS undelivered_rate,
    failed / rated AS failure_rate
FROM sums
ORDER BY period
