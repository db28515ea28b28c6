-- Grain: one row per set of models that explain an operation's counts, of one account's day.
-- It is open whether an email that has been opened leaves delivered, and whether one that has been delivered
-- or found undeliverable leaves sent. Two questions make four models:
--     cumulative        it leaves neither: every count keeps what it has counted
--     opened_apart      opened emails leave delivered, delivered ones stay in sent
--     delivered_apart   opened emails stay in delivered, delivered ones leave sent
--     exclusive         it leaves both: every email is in one count
-- Queued, scheduled, failed and canceled emails are in no other count under any model. All others of a
-- COMPLETED operation have been sent; of an operation in progress some may be in no count yet.
-- What all four explain tells nothing apart and is left out, and so is what lacks a count.
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
