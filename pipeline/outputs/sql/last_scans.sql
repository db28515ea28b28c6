-- Grain: one row per account: the moment up to which the archive knows anything, and that when it began.
SELECT account_id, max(completed_at) AS as_of, min(observed_at) AS archive_since
FROM coverage
GROUP BY account_id
