-- Grain: that of delivery_curve.
-- The rows of all accounts from a day on.
SELECT
    account_id,
    hour,
    completeness,
    age,
    age_minutes,
    hour_operations,
    attempted,
    delivered,
    opened,
    scan_before_minutes,
    scan_after_minutes,
    reading,
    reading_decided
FROM delivery_curve
WHERE created_date >= $since
