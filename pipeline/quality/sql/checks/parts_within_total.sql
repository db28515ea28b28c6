-- Grain: one row per operation whose parts exceed its total.
-- An opened email may also be counted as delivered, and a delivered one as sent, so only the larger of delivered
-- and opened is added, and sent is not. HUGEINT prevents an overflow.
SELECT
    operation_id,
    total,
    coalesce(queued, 0)::HUGEINT + coalesce(scheduled, 0) + coalesce(failed, 0) + coalesce(canceled, 0)
        + coalesce(undelivered, 0) + coalesce(greatest(delivered, opened), 0) AS parts,
    'expected the parts of an operation to be its total at the most' AS problem
FROM operations
WHERE parts > total
ORDER BY operation_id
