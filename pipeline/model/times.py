"""Moments as text: ISO 8601 in UTC, with Z."""

from datetime import UTC, datetime


def iso(moment: datetime) -> str:
    """A moment with all its digits, as 2026-11-20T14:00:00.250000Z; one without a zone is left without."""
    if moment.tzinfo is None:
        return moment.isoformat()
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def iso_seconds(moment: datetime) -> str:
    """A moment in whole seconds, as 2026-11-20T14:00:00Z."""
    return iso(moment.replace(microsecond=0))


def iso_compact(moment: datetime) -> str:
    """A moment for the name of a file, as 20261120T140000.250000Z."""
    return iso(moment).replace("-", "").replace(":", "")
