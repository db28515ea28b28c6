-- Grain: one value: the moment that `ts` names, be it a text, a date or a time.
-- What names no time zone is UTC's, whatever time zone the reader's session has: it is read as it is with
-- UTC put after it, and that of a date alone after its midnight. What names one can't be read so.
coalesce(
    try_cast(ts::VARCHAR || ' UTC' AS TIMESTAMPTZ),
    try_cast(ts::VARCHAR || ' 00:00 UTC' AS TIMESTAMPTZ),
    ts::VARCHAR::TIMESTAMPTZ
)
