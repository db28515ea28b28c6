-- Grain: one row per account and UTC day, in whole weeks and months around the days with slots or operations.
-- The number of slots of the day in each state (see coverage_slots). Days before the first slot are before the
-- archive; later slots that are not known yet can still change. Without any scan, all are before the archive.
WITH scanned AS (
    SELECT account_id, min(created_date) AS first_day, max(created_date) AS last_day
    FROM slots
    GROUP BY account_id
),
summed AS (
    SELECT account_id, min(created_date) AS first_summed, max(created_date) AS last_summed
    FROM delivery_hourly
    GROUP BY account_id
),
days AS (
    SELECT
        account_id,
        first_day,
        least(first_day, first_summed) AS begins,
        greatest(last_day, last_summed) AS ends
    FROM scanned
    FULL JOIN summed USING (account_id)
),
calendar AS (
    SELECT
        account_id,
        first_day,
        unnest(
            generate_series(
                least(date_trunc('week', begins), date_trunc('month', begins))::TIMESTAMP,
                greatest(
                    date_trunc('week', ends) + INTERVAL 6 DAY,
                    date_trunc('month', ends) + INTERVAL 1 MONTH - INTERVAL 1 DAY
                )::TIMESTAMP,
                INTERVAL 1 DAY
            )
        )::DATE AS created_date
    FROM days
),
counted AS (
    SELECT
        account_id,
        created_date,
        first_day,
        count(*) FILTER (state = 'final') AS final_slots,
        count(*) FILTER (state = 'closed') AS closed_slots,
        count(*) FILTER (state IN ('open', 'at_risk')) AS changing_slots,
        count(*) FILTER (state = 'gap') AS gap_slots,
        count(*) FILTER (state = 'before_archive') AS before_archive_slots,
        24 - count(state) AS unknown_slots
    FROM calendar
    LEFT JOIN slots USING (account_id, created_date)
    GROUP BY account_id, created_date, first_day
)
SELECT
    * EXCLUDE (first_day, unknown_slots)
    REPLACE (
        changing_slots + CASE WHEN created_date >= first_day THEN unknown_slots ELSE 0 END
            AS changing_slots,
        before_archive_slots + CASE WHEN created_date >= first_day THEN 0 ELSE unknown_slots END
            AS before_archive_slots
    )
FROM counted
