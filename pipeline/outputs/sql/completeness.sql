-- Grain: one value, for the slots of one period. The worst that is true of any of them; only what nobody
-- lost and somebody asked for can have a rate. Unknown to coverage altogether is nothing asked for.
CASE
    WHEN gaps > 0 OR coalesce(finals + closed + changing, 0) = 0 THEN 'gaps'
    WHEN changing > 0 THEN 'changing'
    WHEN before_archive > 0 THEN 'partial'
    WHEN closed > 0 THEN 'closed'
    ELSE 'final'
END
