-- Grain: one value: the deadline of an operation's slot, in microseconds. date_trunc would ask a calendar.
epoch_us($created_at) // $slot_us * $slot_us + $retention_us
