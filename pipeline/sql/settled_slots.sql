-- Grain: one row per slot whose state changes no more: what publishing depends on of the coverage.
SELECT account_id, slot, state
FROM ($slots)
WHERE state NOT IN ('open', 'at_risk')
ORDER BY account_id, slot
