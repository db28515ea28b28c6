-- Grain: one row per state that was the newest known (R3) when it was seen, in the order of their coming.
-- A state that a listing returned after its deadline, and a fetch by id later, was seen twice.
WITH sightings AS (
    SELECT * REPLACE (CASE WHEN looked_up_at <= observed_at THEN looked_up_at END AS looked_up_at)
    FROM odd_states
    UNION ALL
    SELECT * REPLACE (looked_up_at AS observed_at)
    FROM odd_states
    WHERE looked_up_at > observed_at
),
ranked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY operation_id ORDER BY $newest_first) AS rank
    FROM sightings
)
SELECT $columns
FROM ranked
QUALIFY rank < coalesce(
    min(rank) OVER (
        PARTITION BY operation_id
        ORDER BY observed_at, rank
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ),
    rank + 1
)
ORDER BY operation_id, observed_at
