-- Grain: one row per account, hour of creation and age.
-- The mart has what was known by each age; when somebody looked comes from the scans. An operation from
-- the middle of the hour stands for all of them: it was looked at by complete scans of a window around
-- its creation that began after it, and ended before the deadline (R4).
-- There are counts as far as they were seen, but a rate only where it can be that of the age: not of a
-- lost hour, and not where the last scan by that age saw the operations before half of it.
WITH ages AS (
    SELECT * FROM (VALUES $ages) AS ages (age, age_minutes)
),
known AS (
    SELECT
        curve.* REPLACE (
            CASE reading WHEN 'exclusive' THEN delivered + opened ELSE delivered END AS delivered
        ),
        coalesce(reading, 'cumulative') AS reading,
        coalesce(decided, false) AS reading_decided,
        age,
        hour + INTERVAL 30 MINUTE AS middle,
        middle + to_minutes(age_minutes) AS moment,
        hour + INTERVAL 1 HOUR + to_minutes(age_minutes) <= as_of AS is_reached
    FROM ($curve) AS curve
    JOIN ages USING (age_minutes)
    JOIN ($moments) AS moments ON moments.account_id = curve.account_id
    LEFT JOIN counting
        ON counting.account_id = curve.account_id AND counting.question = 'opened_in_delivered'
),
scanned AS (
    SELECT
        account_id,
        unnest(
            generate_series(
                date_trunc('hour', window_start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                window_end - INTERVAL 1 MICROSECOND,
                INTERVAL 1 HOUR
            )
        ) AS slot,
        window_start,
        window_end,
        observed_at,
        completed_at
    FROM coverage
    WHERE complete
),
scans AS (
    SELECT account_id, slot, observed_at
    FROM scanned
    WHERE window_start <= slot + INTERVAL 30 MINUTE
        AND slot + INTERVAL 30 MINUTE < least(window_end, observed_at)
        AND completed_at < slot + INTERVAL $retention_hours HOUR
)
SELECT
    known.* REPLACE ($known),
    CASE WHEN is_reached THEN date_diff('second', middle, before.observed_at) / 60.0 END
        AS scan_before_minutes,
    CASE WHEN is_reached THEN date_diff('second', middle, after.observed_at) / 60.0 END
        AS scan_after_minutes,
    CASE
        WHEN state IN ('open', 'at_risk') THEN 'changing'
        WHEN state IN ('final', 'closed') THEN state
        ELSE 'gaps'
    END AS completeness,
    completeness <> 'gaps' AND is_reached AND coalesce(scan_before_minutes >= age_minutes / 2, false)
        AS is_of_age,
    CASE WHEN is_of_age THEN known.delivered / nullif(known.attempted, 0) END AS delivery_rate,
    CASE WHEN is_of_age THEN known.opened / nullif(known.delivered, 0) END AS open_rate,
    CASE WHEN is_of_age THEN known.undelivered / nullif(known.attempted, 0) END AS undelivered_rate,
    CASE WHEN is_of_age THEN known.failed / nullif(known.attempted, 0) END AS failure_rate
FROM known
LEFT JOIN coverage_slots AS states
    ON states.account_id = known.account_id AND states.slot = known.hour
ASOF LEFT JOIN scans AS before
    ON known.account_id = before.account_id
    AND known.hour = before.slot
    AND known.moment >= before.observed_at
ASOF LEFT JOIN scans AS after
    ON known.account_id = after.account_id
    AND known.hour = after.slot
    AND known.moment < after.observed_at
ORDER BY known.account_id, known.hour, known.age_minutes
