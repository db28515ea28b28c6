-- Grain: one row per account: the moment asked for, or that of its latest scan if that is later.
SELECT account_id, greatest(max(completed_at), $now::TIMESTAMPTZ) AS as_of
FROM coverage
GROUP BY account_id
