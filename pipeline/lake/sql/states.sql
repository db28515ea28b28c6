-- Grain: one row per distinct state of the operations with news (R1).
-- A state is everything but the moments of seeing it. When a fetch by id returned it is kept only of a state
-- that was first seen after its deadline: before it, every answer is complete.
WITH sightings AS (
    SELECT $columns, true AS is_known FROM history SEMI JOIN news USING (operation_id)
    UNION ALL
    SELECT $columns, false AS is_known FROM news
),
states AS (
    SELECT
        $state,
        min(observed_at) AS observed_at,
        CASE WHEN epoch_us(min(observed_at)) >= $deadline_us THEN min(looked_up_at) END AS looked_up_at,
        min(observed_at) FILTER (is_known) AS known_observed_at,
        min(looked_up_at) FILTER (is_known) AS known_looked_up_at
    FROM sightings
    GROUP BY $state
)
SELECT
    $columns,
    -- Is new, was seen earlier than known, or is now known to have been fetched by id.
    known_observed_at IS DISTINCT FROM observed_at
        OR known_looked_up_at IS DISTINCT FROM looked_up_at AS is_changed
FROM states
