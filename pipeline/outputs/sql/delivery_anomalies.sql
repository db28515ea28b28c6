-- Grain: one row per account, UTC day of creation and rate outside its band.
-- The expected value of a day is the median of the $days_before days before it, without days that can still
-- change or have gaps. The band is $width standard deviations wide on each side. Its variance is the sum of two:
-- that of the days (1.4826 times the median absolute deviation, which is robust against an incident), and that of
-- the day's own sample of independent emails. If a rate was never above 0, the sample uses Laplace's estimate of
-- one in all those emails plus two. The last term is Bernstein's, for days with too few emails for a normal
-- distribution.
-- Opens arrive for days, deliveries for hours, so only rates that can't decrease are judged on a changing day. The
-- same holds for a closed day, whose last scan was long before its deadline; it is not used to predict deliveries
-- and opens.
-- Rates may differ at weekends: if two or more of the same weekday are known among the days before, the rate must
-- also be outside the same band around their median.
WITH days AS (
    SELECT
        account_id,
        created_date,
        completeness,
        reading,
        reading_decided,
        rated_attempted,
        rated_delivered,
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
        reading,
        reading_decided,
        rate,
        value,
        CASE rate WHEN 'open_rate' THEN rated_delivered ELSE rated_attempted END AS emails
    FROM days
    UNPIVOT (value FOR rate IN (delivery_rate, open_rate, undelivered_rate, failure_rate))
),
expected AS (
    SELECT
        judged.account_id,
        judged.created_date,
        judged.completeness,
        judged.reading,
        judged.reading_decided,
        judged.rate,
        judged.value,
        judged.emails,
        count(*) AS days_before,
        median(earlier.value) AS expected,
        mad(earlier.value) AS deviation,
        sum(earlier.emails) AS emails_before,
        count(*) FILTER (isodow(earlier.created_date) = isodow(judged.created_date)) AS days_alike,
        median(earlier.value) FILTER (isodow(earlier.created_date) = isodow(judged.created_date))
            AS expected_alike,
        sum(earlier.emails) FILTER (isodow(earlier.created_date) = isodow(judged.created_date))
            AS emails_alike
    FROM rates AS judged
    JOIN rates AS earlier
        ON earlier.account_id = judged.account_id
        AND earlier.rate = judged.rate
        AND earlier.created_date >= judged.created_date - $days_before
        AND earlier.created_date < judged.created_date
        AND (
            earlier.completeness IN ('final', 'partial')
            OR (
                earlier.completeness = 'closed'
                AND earlier.rate IN ('undelivered_rate', 'failure_rate')
            )
        )
    GROUP BY ALL
    HAVING count(*) >= $fewest_days
),
banded AS (
    SELECT
        *,
        (expected * emails_before + 1) / (emails_before + 2) AS chance,
        $width * sqrt(power(1.4826 * deviation, 2) + chance * (1 - chance) / emails)
            + power($width, 2) / (3 * emails) AS reach,
        (expected_alike * emails_alike + 1) / (emails_alike + 2) AS chance_alike,
        $width * sqrt(power(1.4826 * deviation, 2) + chance_alike * (1 - chance_alike) / emails)
            + power($width, 2) / (3 * emails) AS reach_alike,
        greatest(expected - reach, 0) AS low,
        least(expected + reach, 1) AS high,
        days_alike < 2 OR value > least(expected_alike + reach_alike, 1) AS is_above_alike,
        days_alike < 2 OR value < greatest(expected_alike - reach_alike, 0) AS is_below_alike,
        CASE
            WHEN value > high AND is_above_alike THEN 'above'
            WHEN value < low AND is_below_alike THEN 'below'
        END AS direction
    FROM expected
)
SELECT account_id, created_date, completeness, reading, reading_decided, rate, value, emails, days_before,
    expected, low, high, direction
FROM banded
WHERE direction IS NOT NULL
    AND (
        completeness = 'final'
        OR (direction = 'above' AND rate IN ('open_rate', 'undelivered_rate', 'failure_rate'))
        OR (completeness = 'closed' AND rate IN ('undelivered_rate', 'failure_rate'))
    )
ORDER BY account_id, created_date, rate
