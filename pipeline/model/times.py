"""Times as ISO 8601 text in UTC, with Z."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """A time with microseconds, as 2026-11-20T14:00:00.250000Z. One without a time zone is not converted."""
    if moment.tzinfo is None:
        return moment.isoformat()
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def iso_seconds(moment: datetime) -> str:
    """A time in whole seconds, as 2026-11-20T14:00:00Z."""
    return iso(moment.replace(microsecond=0))


def iso_compact(moment: datetime) -> str:
    """A time in a file name, as 20261120T140000.250000Z."""
    return iso(moment).replace("-", "").replace(":", "")
