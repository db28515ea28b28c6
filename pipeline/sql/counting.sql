-- Grain: one row per account and question.
-- Which reading of the counts holds, on what evidence. The side with more evidence wins; with none,
-- or as much on both sides, the reading of the reference's samples: cumulative.
WITH found AS (
    SELECT
        account_id,
        question,
        sum(cumulative_operations) AS cumulative_operations,
        sum(exclusive_operations) AS exclusive_operations,
        min(cumulative_example) AS cumulative_example,
        min(exclusive_example) AS exclusive_example
    FROM counting_evidence
    GROUP BY account_id, question
)
SELECT
    *,
    CASE WHEN exclusive_operations > cumulative_operations THEN 'exclusive' ELSE 'cumulative' END
        AS reading,
    exclusive_operations <> cumulative_operations AS decided,
    CASE
        WHEN cumulative_operations = 0 AND exclusive_operations = 0
            THEN 'No operation decides it: cumulative is assumed, as in the reference''s samples.'
        WHEN exclusive_operations = 0
            THEN format(
                '{} only possible under this reading.',
                CASE cumulative_operations
                    WHEN 1 THEN '1 operation is'
                    ELSE format('{} operations are', cumulative_operations)
                END
            )
        WHEN cumulative_operations = 0
            THEN format(
                '{} only possible under this reading.',
                CASE exclusive_operations
                    WHEN 1 THEN '1 operation is'
                    ELSE format('{} operations are', exclusive_operations)
                END
            )
        ELSE format(
            '{} only possible if cumulative, {} only if exclusive: the more decide.',
            CASE cumulative_operations
                WHEN 1 THEN '1 operation is'
                ELSE format('{} operations are', cumulative_operations)
            END,
            exclusive_operations
        )
    END AS evidence
FROM found
ORDER BY account_id, question
