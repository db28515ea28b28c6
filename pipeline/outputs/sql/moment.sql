-- Grain: one value.
-- `ts` as a time. Text, dates and times without a time zone are UTC, in any time zone of the session: they are
-- cast with UTC appended, and a date with its midnight. Both casts fail for a value with a time zone.
coalesce(
    try_cast(ts::VARCHAR || ' UTC' AS TIMESTAMPTZ),
    try_cast(ts::VARCHAR || ' 00:00 UTC' AS TIMESTAMPTZ),
    ts::VARCHAR::TIMESTAMPTZ
)
