-- Grain: one row per distinct state of the operations with changed states (R1).
-- A state is all columns but the times of observation. looked_up_at is kept only for a state first observed after its
-- deadline: before the deadline every response is complete.
WITH sightings AS (
    SELECT $columns, true AS is_known FROM history SEMI JOIN changed_states USING (operation_id)
    UNION ALL
    SELECT $columns, false AS is_known FROM changed_states
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
    -- The state is new, was observed earlier than stored, or is now known from a lookup by id.
    known_observed_at IS DISTINCT FROM observed_at
        OR known_looked_up_at IS DISTINCT FROM looked_up_at AS is_changed
FROM states
