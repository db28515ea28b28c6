-- Grain: one row per account: the moment asked for, or that of its latest scan if that is later; and that
-- when the archive began.
SELECT
    account_id,
    greatest(max(completed_at), $now::TIMESTAMPTZ) AS as_of,
    min(observed_at) AS archive_since
FROM coverage
GROUP BY account_id
