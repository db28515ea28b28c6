-- Grain: one row per slot: account and UTC hour of creation, from 7 days before the archive began.
-- The state of each slot as of a moment of the API's clock: in the published view that of the latest scan, for
-- `status` the present. The cases are in this order: a slot past its deadline before the archive began could not
-- be scanned; a slot without a scan after its end is lost; a scan shortly before the deadline is a final scan.
WITH moments AS (
    $moments
),
covered AS (
    SELECT account_id, slot, first_scan_at, covered_at, scans, operations FROM slot_coverage
),
first_slots AS (
    -- From the retention before the archive began, whether scanned or not. Hours and dates are in UTC,
    -- in any time zone of the session.
    SELECT
        account_id,
        as_of,
        archive_since,
        least(
            min(slot),
            date_trunc('day', (archive_since - INTERVAL $retention_hours HOUR) AT TIME ZONE 'UTC')
                AT TIME ZONE 'UTC'
        ) AS first_slot
    FROM moments
    LEFT JOIN covered USING (account_id)
    GROUP BY account_id, as_of, archive_since
),
slots AS (
    SELECT
        account_id,
        as_of,
        archive_since,
        -- A scan dated by a wrong clock must not make rows for all hours until then.
        unnest(
            generate_series(
                first_slot,
                least(as_of, first_slot + INTERVAL $most_years YEAR),
                INTERVAL 1 HOUR
            )
        ) AS slot
    FROM first_slots
),
known AS (
    SELECT
        slots.account_id,
        slots.slot,
        as_of,
        archive_since,
        slots.slot + INTERVAL 1 HOUR AS slot_end,
        slots.slot + INTERVAL $retention_hours HOUR AS deadline,
        first_scan_at,
        covered_at,
        coalesce(scans, 0) AS scans,
        coalesce(operations, 0) AS operations
    FROM slots
    LEFT JOIN covered USING (account_id, slot)
)
SELECT
    account_id,
    (slot AT TIME ZONE 'UTC')::DATE AS created_date,
    slot,
    CASE
        WHEN deadline <= archive_since THEN 'before_archive'
        WHEN deadline <= as_of AND (covered_at IS NULL OR covered_at < slot_end) THEN 'gap'
        WHEN covered_at >= deadline - INTERVAL $final_hours HOUR THEN 'final'
        WHEN deadline <= as_of THEN 'closed'
        WHEN as_of > deadline - INTERVAL $risk_hours HOUR THEN 'at_risk'
        WHEN as_of > deadline - INTERVAL 24 HOUR AND (covered_at IS NULL OR covered_at < slot_end)
            THEN 'at_risk'
        ELSE 'open'
    END AS state,
    first_scan_at,
    covered_at,
    scans,
    operations,
    deadline,
    greatest(date_diff('second', as_of, deadline) / 3600.0, 0) AS hours_left,
    as_of
FROM known
ORDER BY account_id, slot
