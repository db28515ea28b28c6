-- Grain: one row per set of models that explain an operation's counts, of one account's day.
-- The reference does not say whether an opened email is still counted in delivered, and whether a delivered or
-- undelivered one is still counted in sent. The two questions make four models:
--     cumulative        both: an email stays in every count that it has been in
--     opened_apart      opened emails leave delivered, delivered ones stay in sent
--     delivered_apart   opened emails stay in delivered, delivered ones leave sent
--     exclusive         neither: an email is in one count
-- Queued, scheduled, failed and canceled emails are in no other count under any model. All others of a
-- COMPLETED operation have been sent; of an operation in progress some may be in no count yet.
-- Operations that all four models explain, and operations that lack a count, are left out.
WITH processed AS (
    SELECT
        operation_id,
        total - queued - scheduled - failed - canceled AS most_sent,
        CASE WHEN status = 'COMPLETED' THEN most_sent ELSE 0 END AS least_sent,
        sent,
        delivered,
        opened,
        undelivered
    FROM operations
),
explained AS (
    SELECT
        operation_id,
        sent BETWEEN least_sent AND most_sent
            AND delivered + undelivered <= sent
            AND opened <= delivered AS cumulative,
        sent BETWEEN least_sent AND most_sent
            AND delivered + opened + undelivered <= sent AS opened_apart,
        sent + delivered + undelivered BETWEEN least_sent AND most_sent
            AND opened <= delivered AS delivered_apart,
        sent + delivered + opened + undelivered BETWEEN least_sent AND most_sent AS exclusive
    FROM processed
    WHERE most_sent + sent + delivered + opened + undelivered IS NOT NULL
)
SELECT
    concat_ws(
        ' ',
        CASE WHEN cumulative THEN 'cumulative' END,
        CASE WHEN opened_apart THEN 'opened_apart' END,
        CASE WHEN delivered_apart THEN 'delivered_apart' END,
        CASE WHEN exclusive THEN 'exclusive' END
    ) AS models,
    count(*) AS operations,
    min(operation_id) AS example
FROM explained
WHERE NOT (cumulative AND opened_apart AND delivered_apart AND exclusive)
GROUP BY cumulative, opened_apart, delivered_apart, exclusive
ORDER BY models
