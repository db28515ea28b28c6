-- Grain: one row per UTC week, from the first operation of one of the accounts on.
-- As `days`, of an archive that has too many days for one chart.
WITH sums AS (
    SELECT
        week AS period,
        $states[max(list_position($states, completeness))] AS completeness,
        168 * count(*) AS hours,
        168 * count(*) - sum(before_archive_slots)::BIGINT AS archived_hours,
        sum(gap_slots)::BIGINT AS lost_hours,
        sum(operations)::BIGINT AS operations,
        coalesce(sum(total), 0)::BIGINT AS emails,
        sum(rated_attempted)::BIGINT AS attempted,
        sum(rated_delivered)::BIGINT AS delivered,
        sum(rated_opened)::BIGINT AS opened,
        sum(rated_undelivered)::BIGINT AS undelivered,
        sum(rated_failed)::BIGINT AS failed,
        sum(canceled)::BIGINT AS canceled
    FROM delivery_weekly
    WHERE account_id IN (SELECT unnest($accounts))
    GROUP BY week
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
