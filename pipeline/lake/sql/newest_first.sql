-- Grain: one order: an operation's states, the newest first (R3).
-- The state with the highest updated_at is the newest. Ties are broken by the latest complete response: a listing
-- before the deadline, or a lookup by id at any time. A listing after the deadline may be incomplete, so states from
-- such listings alone come after, the earliest first. The other columns make the order deterministic (R5).
updated_at DESC,
CASE WHEN epoch_us(observed_at) < $deadline_us THEN observed_at ELSE looked_up_at END DESC NULLS LAST,
observed_at,
$rest
