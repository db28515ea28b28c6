-- Grain: one row per account, hour of creation and age.
-- The counts known by each age, from the mart, with the ages at which scans observed them. The middle of the hour
-- stands for all its operations: the scans are those complete ones of a window around it that began after it and
-- ended before the deadline (R4).
-- A rate is NULL if it can't be that of the age: in a lost hour, or if the last scan by that age was before half
-- of it.
WITH scanned AS (
    SELECT
        account_id,
        created_date,
        unnest(
            generate_series(
                date_trunc('hour', window_start AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
                window_end - INTERVAL 1 MICROSECOND,
                INTERVAL 1 HOUR
            )
        ) AS hour,
        window_start,
        window_end,
        observed_at,
        completed_at
    FROM coverage
    WHERE complete
),
scans AS (
    SELECT account_id, created_date, hour, list(observed_at) AS scanned_at
    FROM scanned
    WHERE window_start <= hour + INTERVAL 30 MINUTE
        AND hour + INTERVAL 30 MINUTE < least(window_end, observed_at)
        AND completed_at < hour + INTERVAL $retention_hours HOUR
    GROUP BY account_id, created_date, hour
),
hours AS (
    SELECT
        slots.account_id,
        slots.created_date,
        slot AS hour,
        state,
        as_of,
        reading,
        decided,
        scanned_at
    FROM coverage_slots AS slots
    LEFT JOIN scans
        ON scans.account_id = slots.account_id
        AND scans.created_date = slots.created_date
        AND scans.hour = slots.slot
    LEFT JOIN counting
        ON counting.account_id = slots.account_id AND counting.question = 'opened_in_delivered'
),
curve AS (
    SELECT
        *,
        hour + INTERVAL 30 MINUTE AS middle,
        hour + INTERVAL 30 MINUTE + to_minutes(age_minutes) AS moment
    FROM ($curve)
),
known AS (
    -- Not an ASOF join: DuckDB runs it as a nested loop if it expects few rows on one side, which takes
    -- minutes for an archive of several accounts.
    SELECT
        curve.* REPLACE (
            CASE reading WHEN 'exclusive' THEN delivered + opened ELSE delivered END AS delivered
        ),
        coalesce(reading, 'cumulative') AS reading,
        coalesce(decided, false) AS reading_decided,
        state,
        coalesce(curve.hour + INTERVAL 1 HOUR + to_minutes(age_minutes) <= as_of, false) AS is_reached,
        CASE WHEN is_reached THEN list_max(list_filter(scanned_at, lambda one: one <= moment)) END
            AS scan_before,
        CASE WHEN is_reached THEN list_min(list_filter(scanned_at, lambda one: one > moment)) END
            AS scan_after
    FROM curve
    LEFT JOIN hours USING (account_id, created_date, hour)
)
SELECT
    known.* REPLACE ($known),
    CASE age_minutes $ages END AS age,
    date_diff('second', middle, scan_before) / 60.0 AS scan_before_minutes,
    date_diff('second', middle, scan_after) / 60.0 AS scan_after_minutes,
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
