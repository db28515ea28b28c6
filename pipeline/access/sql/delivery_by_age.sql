-- Grain: one row per account and age, of its hours of creation with a final scan.
-- Lower and upper bounds of the shares of emails delivered and opened by an age, from rows of delivery_curve. Both are
-- shares of the emails attempted in the end.
-- The lower bound is the counts of the last scan by that age; 0 without one. Counts only grow, so the upper bound is
-- the counts of a scan at which all operations of the hour had passed the age; NULL without one. Ages of scans are
-- those of the middle of the hour, and its operations are up to half an hour older or younger. So this is the first
-- scan half an hour or more after the age (next_scan_minutes), and its counts of all operations are in the rows of
-- ages half an hour or more after that scan.
-- Only final hours that have passed every age are included: without a final scan, the last counts are no upper bound.
-- past_hours is the number of hours with operations past their deadline, final or not.
WITH curves AS (
    $curves
),
known AS (
    SELECT
        account_id,
        hour,
        age,
        age_minutes,
        hour_operations,
        coalesce(delivered, 0) AS delivered,
        coalesce(opened, 0) AS opened,
        attempted,
        scan_before_minutes,
        scan_after_minutes,
        reading,
        reading_decided
    FROM curves
    WHERE completeness = 'final'
),
ends AS (
    SELECT
        account_id,
        hour,
        max(delivered) AS delivered_at_end,
        max(opened) AS opened_at_end,
        max(attempted) FILTER (age_minutes = $last_age) AS attempted_at_end,
        max(scan_before_minutes) AS last_scan_minutes
    FROM known
    GROUP BY account_id, hour
    HAVING attempted_at_end IS NOT NULL
),
past AS (
    SELECT account_id, count(*) AS past_hours
    FROM curves
    WHERE completeness <> 'changing' AND age_minutes = $last_age AND attempted IS NOT NULL
    GROUP BY account_id
),
scanned AS (
    SELECT
        *,
        first_value(scan_after_minutes) OVER (
            PARTITION BY account_id, hour ORDER BY age_minutes
            RANGE BETWEEN 30 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS next_scan_minutes
    FROM known
    JOIN ends USING (account_id, hour)
),
bounded AS (
    SELECT
        here.*,
        last_scan_minutes >= here.age_minutes + 30 AS is_bounded,
        arg_min(later.delivered, later.age_minutes) AS delivered_later,
        arg_min(later.opened, later.age_minutes) AS opened_later
    FROM scanned AS here
    LEFT JOIN known AS later
        ON later.account_id = here.account_id
        AND later.hour = here.hour
        AND later.age_minutes >= here.next_scan_minutes + 30
    GROUP BY ALL
)
SELECT
    account_id,
    age,
    age_minutes,
    count(*) AS hours,
    any_value(past_hours) AS past_hours,
    count(scan_before_minutes) AS seen_hours,
    sum(hour_operations)::BIGINT AS operations,
    sum(attempted_at_end)::BIGINT AS attempted,
    sum(delivered) / nullif(sum(attempted_at_end), 0) AS delivered_at_least,
    CASE
        WHEN bool_and(is_bounded)
            THEN sum(coalesce(delivered_later, delivered_at_end)) / nullif(sum(attempted_at_end), 0)
    END AS delivered_at_most,
    sum(opened) / nullif(sum(attempted_at_end), 0) AS opened_at_least,
    CASE
        WHEN bool_and(is_bounded)
            THEN sum(coalesce(opened_later, opened_at_end)) / nullif(sum(attempted_at_end), 0)
    END AS opened_at_most,
    median(scan_before_minutes) AS scan_before_minutes,
    median(scan_after_minutes) AS scan_after_minutes,
    any_value(reading) AS reading,
    any_value(reading_decided) AS reading_decided
FROM bounded
JOIN past USING (account_id)
GROUP BY account_id, age, age_minutes
ORDER BY account_id, age_minutes
