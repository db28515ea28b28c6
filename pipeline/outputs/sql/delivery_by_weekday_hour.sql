-- Grain: one row per account, ISO weekday and hour of creation in UTC: 168 per account.
-- Sums over all weeks, of final and closed slots only: opens of younger slots are still missing.
WITH settled AS (
    SELECT hourly.*, isodow(hour) AS weekday, extract('hour' FROM hour) AS hour_of_day
    FROM collected.delivery_hourly AS hourly
    JOIN slots ON slots.account_id = hourly.account_id AND slots.slot = hourly.hour
    WHERE state IN ('final', 'closed')
),
sums AS (
    SELECT
        account_id,
        weekday,
        hour_of_day AS hour,
        $sums
    FROM settled
    GROUP BY account_id, weekday, hour_of_day
),
counts AS (
    SELECT
        account_id,
        isodow(slot) AS weekday,
        extract('hour' FROM slot) AS hour,
        count(*) FILTER (state = 'final') AS final_slots,
        count(*) FILTER (state = 'closed') AS closed_slots,
        count(*) FILTER (state IN ('open', 'at_risk')) AS changing_slots,
        count(*) FILTER (state = 'gap') AS gap_slots,
        count(*) FILTER (state = 'before_archive') AS before_archive_slots
    FROM slots
    GROUP BY ALL
),
grid AS (
    SELECT account_id, weekday, hour
    FROM (SELECT DISTINCT account_id FROM counts)
    CROSS JOIN unnest(generate_series(1, 7)) AS weekdays (weekday)
    CROSS JOIN unnest(generate_series(0, 23)) AS hours (hour)
)
SELECT
    * EXCLUDE ($zero)
    REPLACE (
        coalesce(operations, 0) AS operations,
        coalesce(rated_operations, 0) AS rated_operations
    ),
    $zeros,
    CASE
        WHEN closed_slots > 0 THEN 'closed' WHEN final_slots > 0 THEN 'final' ELSE 'changing'
    END AS completeness
FROM grid
LEFT JOIN counts USING (account_id, weekday, hour)
LEFT JOIN sums USING (account_id, weekday, hour)
