-- Grain: one row per account.
-- as_of is a given moment, or the end of the account's latest scan if that is later; archive_since is the start
-- of its first scan.
SELECT
    account_id,
    CASE
        -- Nothing is lost any more of an account that is retired.
        WHEN list_contains($retired::VARCHAR[], account_id) THEN max(completed_at)
        ELSE greatest(max(completed_at), $now::TIMESTAMPTZ)
    END AS as_of,
    min(observed_at) AS archive_since
FROM coverage
GROUP BY account_id
