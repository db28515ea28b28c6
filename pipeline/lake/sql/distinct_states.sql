-- Grain: one row per distinct state among some observed states (R1), with its first observation and first lookup.
SELECT
    $state,
    min(observed_at) AS observed_at,
    CASE WHEN epoch_us(min(observed_at)) >= $deadline_us THEN min(looked_up_at) END AS looked_up_at
FROM $observations
GROUP BY $state
