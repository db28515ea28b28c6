-- Grain: one value per period.
-- The completeness of a period from its slots in each state: the last of COMPLETENESS that applies. A period
-- without any scanned slot has gaps.
CASE
    WHEN gaps > 0 OR coalesce(finals + closed + changing, 0) = 0 THEN 'gaps'
    WHEN changing > 0 THEN 'changing'
    WHEN before_archive > 0 THEN 'partial'
    WHEN closed > 0 THEN 'closed'
    ELSE 'final'
END
