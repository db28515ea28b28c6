-- Grain: one row per account.
-- as_of is the end of its latest scan, archive_since the start of its first.
SELECT account_id, max(completed_at) AS as_of, min(observed_at) AS archive_since
FROM coverage
GROUP BY account_id
