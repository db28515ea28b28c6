-- Grain: one row per hour of creation, age at which states were observed, age at which they were superseded, and
-- whether they have every count that the rates need; of a piece of one account's day.
-- A state is in effect from its observation until a newer one (R3) is observed. A state that is older than an earlier
-- observed one is never in effect. An age is the first of delivery_curve's ages that the operation had not passed:
-- NULL if it had passed all of them, or if the state was never superseded.
WITH sightings AS (
    -- A state that a listing returned after its deadline, and a lookup by id later, was observed twice.
    SELECT * REPLACE (CASE WHEN looked_up_at <= observed_at THEN looked_up_at END AS looked_up_at)
    FROM piece
    UNION ALL
    SELECT * REPLACE (looked_up_at AS observed_at)
    FROM piece
    WHERE looked_up_at > observed_at
),
in_effect AS (
    SELECT
        *,
        min(observed_at) OVER (
            PARTITION BY operation_id
            ORDER BY $newest_first
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS superseded_at
    FROM sightings
    QUALIFY superseded_at IS NULL OR observed_at < superseded_at
),
aged AS (
    SELECT
        *,
        epoch_us(created_at) // $hour_us AS hour,
        epoch_us(observed_at) - epoch_us(created_at) AS seen_us,
        epoch_us(superseded_at) - epoch_us(created_at) AS superseded_us,
        $is_rated AS is_rated
    FROM in_effect
)
SELECT
    make_timestamptz(hour * $hour_us) AS hour,
    CASE $ages_from_seen_us END AS seen_age,
    CASE $ages_from_superseded_us END AS superseded_age,
    superseded_at IS NULL AS is_newest,
    is_rated,
    count(*) AS operations,
    sum(total) AS emails,
    sum(total - canceled - scheduled - queued) AS attempted,
    sum(delivered) AS delivered,
    sum(opened) AS opened,
    sum(undelivered) AS undelivered,
    sum(failed) AS failed
FROM aged
GROUP BY ALL
