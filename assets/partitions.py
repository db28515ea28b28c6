"""The partitions: one per UTC day of creation, today included."""

import dagster as dg

FIRST_DAY = "2026-01-01"

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, timezone="UTC", end_offset=1)
