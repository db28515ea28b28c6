-- Grain: one order: an operation's states, the newest first (R3).
-- The highest updated_at is the newest. Of several states that have it, it is the one that a complete answer
-- returned last: one to a listing before the deadline, or to a fetch by id at any time. A listing after the
-- deadline may be incomplete: a state that came in nothing else gives way, and of several such the earliest
-- stays. The rest makes the choice among states seen at one moment the same every time (R5).
updated_at DESC,
CASE WHEN epoch_us(observed_at) < $deadline_us THEN observed_at ELSE looked_up_at END DESC NULLS LAST,
observed_at,
$rest
