-- Grain: one row per account: the moment up to which the archive knows anything.
SELECT account_id, max(completed_at) AS as_of FROM coverage GROUP BY account_id
