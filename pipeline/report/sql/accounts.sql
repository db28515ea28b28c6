-- Grain: one row per account of the archive.
-- The account with the most operations comes first.
WITH scanned AS (
    SELECT account_id, max(as_of) AS as_of FROM coverage_slots GROUP BY account_id
),
sent AS (
    SELECT
        account_id,
        sum(operations)::BIGINT AS operations,
        min(created_date) AS first_day,
        max(created_date) AS last_day
    FROM delivery_daily
    WHERE operations > 0
    GROUP BY account_id
)
SELECT
    account_id,
    coalesce(operations, 0) AS operations,
    first_day,
    last_day,
    as_of
FROM scanned
FULL JOIN sent USING (account_id)
ORDER BY operations DESC, account_id
