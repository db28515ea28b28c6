-- Grain: one row per account and question.
-- The reading of the account's counts. Each question has two readings, and each reading two of the four models of
-- the mart counting_evidence. The model that explains the most operations decides if it explains a clear share of
-- all operations that distinguish models, and if, against each model of the other reading, a clear share of
-- enough operations supports it. So a few late or lost events neither decide nor prevent a decision. Otherwise
-- the reading of the reference's samples is assumed: cumulative.
WITH readings (model, question, reading) AS (
    VALUES
        ('cumulative', 'opened_in_delivered', 'cumulative'),
        ('delivered_apart', 'opened_in_delivered', 'cumulative'),
        ('opened_apart', 'opened_in_delivered', 'exclusive'),
        ('exclusive', 'opened_in_delivered', 'exclusive'),
        ('cumulative', 'delivered_in_sent', 'cumulative'),
        ('opened_apart', 'delivered_in_sent', 'cumulative'),
        ('delivered_apart', 'delivered_in_sent', 'exclusive'),
        ('exclusive', 'delivered_in_sent', 'exclusive')
),
evidence AS (
    SELECT
        account_id,
        string_split(models, ' ') AS models,
        sum(operations) AS operations,
        min(example) AS example
    FROM collected.counting_evidence
    GROUP BY ALL
),
explained AS (
    SELECT
        account_id,
        model,
        coalesce(sum(operations), 0)::BIGINT AS all_operations,
        coalesce(sum(operations) FILTER (list_contains(models, model)), 0)::BIGINT AS explained
    FROM (SELECT DISTINCT account_id FROM collected.delivery_hourly)
    CROSS JOIN (SELECT DISTINCT model FROM readings)
    LEFT JOIN evidence USING (account_id)
    GROUP BY ALL
),
best AS (
    SELECT
        account_id,
        arg_max(model, (explained, model)) AS model,
        any_value(all_operations) AS all_operations,
        max(explained) AS explained
    FROM explained
    GROUP BY account_id
),
rivals AS (
    SELECT
        best.account_id,
        best.all_operations,
        best.explained,
        ours.question,
        ours.reading AS likelier,
        theirs.model AS rival,
        operations,
        example,
        list_contains(models, ours.model) AND NOT list_contains(models, rival) AS is_for_it,
        list_contains(models, rival) AND NOT list_contains(models, ours.model) AS is_against_it
    FROM best
    JOIN readings AS ours USING (model)
    JOIN readings AS theirs ON theirs.question = ours.question AND theirs.reading <> ours.reading
    LEFT JOIN evidence USING (account_id)
),
compared AS (
    SELECT
        account_id,
        question,
        likelier,
        rival,
        all_operations - explained AS unexplained_operations,
        all_operations,
        coalesce(sum(operations) FILTER (is_for_it), 0)::BIGINT AS for_it,
        coalesce(sum(operations) FILTER (is_against_it), 0)::BIGINT AS against_it,
        min(example) FILTER (is_for_it) AS example_for_it,
        min(example) FILTER (is_against_it) AS example_against_it,
        for_it + against_it AS deciding,
        for_it / nullif(deciding, 0) AS majority,
        deciding >= $fewest AND majority >= $clear AS is_clear
    FROM rivals
    GROUP BY ALL
),
closest AS (
    -- Of the other reading's two models, the stronger one.
    FROM compared
    QUALIFY row_number() OVER (
        PARTITION BY account_id, question
        ORDER BY is_clear, for_it - against_it, rival
    ) = 1
),
judged AS (
    SELECT
        *,
        is_clear AND unexplained_operations <= (1 - $clear) * all_operations AS decided,
        CASE WHEN decided THEN likelier ELSE 'cumulative' END AS reading,
        CASE likelier WHEN 'cumulative' THEN for_it ELSE against_it END AS cumulative_operations,
        CASE likelier WHEN 'cumulative' THEN against_it ELSE for_it END AS exclusive_operations,
        CASE likelier WHEN 'cumulative' THEN example_for_it ELSE example_against_it END
            AS cumulative_example,
        CASE likelier WHEN 'cumulative' THEN example_against_it ELSE example_for_it END
            AS exclusive_example,
        format(
            '{} for {}, {:,} for {}',
            CASE for_it
                WHEN 1 THEN '1 operation speaks'
                ELSE format('{:,} operations speak', for_it)
            END,
            likelier,
            against_it,
            CASE likelier WHEN 'cumulative' THEN 'exclusive' ELSE 'cumulative' END
        ) AS counts
    FROM closest
)
SELECT
    *,
    CASE
        WHEN decided
            THEN format(
                '{} ({:.1f} %); for example {}.',
                counts,
                floor(1000 * majority) / 10,
                example_for_it
            )
        WHEN deciding = 0 THEN 'No operation distinguishes the two.'
        WHEN deciding < $fewest THEN format('{}: fewer than {} in all.', counts, $fewest)
        WHEN majority < $clear THEN format('{}: less than {:.0f} %.', counts, 100 * $clear)
        ELSE format(
            '{}, but {:,} of {:,} operations contradict the likeliest two answers: more than {:.0f} %.',
            counts,
            unexplained_operations,
            all_operations,
            100 - 100 * $clear
        )
    END
    || CASE
        WHEN decided THEN '' ELSE ' Cumulative is assumed, as in the reference''s samples.'
    END AS evidence
FROM judged
ORDER BY account_id, question
