-- Grain: one row per account, UTC day of creation and rate that left its band.
-- What to expect of a day is the median of the $days_before days before it, leaving out those that can
-- still change or have gaps. The band is $width standard deviations wide on each side: those of the days
-- (robustly, 1.4826 times the median absolute deviation, so that an incident does not widen the band
-- after it) and that of the day's own lot, as of so many independent emails. A rate that never was above 0 is
-- taken for one in all those emails and two more (Laplace), and the last term is Bernstein's, for days
-- of a few emails on which no normal distribution holds.
-- Opens come over days, deliveries over hours: a day that still changes is judged only by what can't
-- get smaller.
WITH days AS (
    SELECT
        account_id,
        created_date,
        completeness,
        rated_attempted,
        round(delivery_rate * rated_attempted)::BIGINT AS read_as_delivered,
        delivery_rate,
        open_rate,
        undelivered_rate,
        failure_rate
    FROM delivery_daily
),
rates AS (
    SELECT
        account_id,
        created_date,
        completeness,
        rate,
        value,
        CASE rate WHEN 'open_rate' THEN read_as_delivered ELSE rated_attempted END AS emails
    FROM days
    UNPIVOT (value FOR rate IN (delivery_rate, open_rate, undelivered_rate, failure_rate))
),
expected AS (
    SELECT
        judged.account_id,
        judged.created_date,
        judged.completeness,
        judged.rate,
        judged.value,
        judged.emails,
        count(*) AS days_before,
        median(earlier.value) AS expected,
        mad(earlier.value) AS deviation,
        sum(earlier.emails) AS emails_before
    FROM rates AS judged
    JOIN rates AS earlier
        ON earlier.account_id = judged.account_id
        AND earlier.rate = judged.rate
        AND earlier.created_date >= judged.created_date - $days_before
        AND earlier.created_date < judged.created_date
        AND earlier.completeness IN ('final', 'closed', 'partial')
    GROUP BY ALL
    HAVING count(*) >= $fewest_days
),
banded AS (
    SELECT
        *,
        (expected * emails_before + 1) / (emails_before + 2) AS chance,
        $width * sqrt(power(1.4826 * deviation, 2) + chance * (1 - chance) / emails)
            + power($width, 2) / (3 * emails) AS reach,
        greatest(expected - reach, 0) AS low,
        least(expected + reach, 1) AS high,
        CASE WHEN value > high THEN 'above' WHEN value < low THEN 'below' END AS direction
    FROM expected
)
SELECT * EXCLUDE (deviation, emails_before, chance, reach)
FROM banded
WHERE direction IS NOT NULL
    AND (
        completeness IN ('final', 'closed')
        OR (direction = 'above' AND rate IN ('open_rate', 'undelivered_rate', 'failure_rate'))
    )
ORDER BY account_id, created_date, rate
