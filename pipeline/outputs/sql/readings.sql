-- Grain: one row per account.
-- The reading of its counts, and whether it makes a difference.
SELECT
    account_id,
    reading,
    decided,
    evidence,
    coalesce(opened, 0) > 0 AS matters
FROM counting
LEFT JOIN (
    SELECT account_id, sum(rated_opened) AS opened FROM delivery_daily GROUP BY account_id
) USING (account_id)
WHERE question = 'opened_in_delivered'
ORDER BY account_id
