-- Grain: one value: the deadline of an operation's slot, in Unix microseconds. date_trunc is slower: it uses a calendar.
epoch_us($created_at) // $slot_us * $slot_us + $retention_us
