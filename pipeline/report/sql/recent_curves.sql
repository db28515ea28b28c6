-- Grain: that of delivery_curve, of every account's days from one on.
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
    scan_after_minutes
FROM delivery_curve
WHERE created_date >= $since
