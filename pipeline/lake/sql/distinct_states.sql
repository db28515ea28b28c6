-- Grain: one row per distinct state among some sightings (R1), with the first moment of either kind.
SELECT
    $state,
    min(observed_at) AS observed_at,
    CASE WHEN epoch_us(min(observed_at)) >= $deadline_us THEN min(looked_up_at) END AS looked_up_at
FROM $sightings
GROUP BY $state
