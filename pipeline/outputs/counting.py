"""How an account's counts are read: what decides it, and what is published of it.

The evidence is the mart `counting_evidence`, day by day; ``sql/counting.sql`` adds it up. The cases and the
rule are in docs/counting.md.
"""

from dataclasses import dataclass
from typing import Final

from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.outputs.published import ask_warehouse

FEWEST_OPERATIONS: Final = 5
"""Operations that tell two readings apart: fewer may all be late or lost events."""

CLEAR_SHARE: Final = 0.9
"""The share of them that one reading needs; and the share of all operations that tell anything which its
model has to explain."""

PARTS: Final = {"fewest": str(FEWEST_OPERATIONS), "clear": str(CLEAR_SHARE)}
"""What ``sql/counting.sql`` is filled in with."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the counts of an account are read for its rates; see `schema.COUNTING`.

    Attributes:
        account_id: the account.
        reading: cumulative (`delivered` still counts what has been opened) or exclusive.
        decided: whether the account's own counts show it; otherwise it is assumed.
        evidence: the evidence in one sentence.
        matters: whether anything was opened: otherwise the rates are the same under both readings.
    """

    account_id: str
    reading: str
    decided: bool
    evidence: str
    matters: bool

    @property
    def warning(self) -> str | None:
        """What to know before a rate is used; None if the reading is decided or makes no difference."""
        if self.decided or not self.matters:
            return None
        return (
            f"rates assume {self.reading} counting, and the account's counts don't show it: {self.evidence} "
            "delivery_daily has both: delivery_rate_cumulative and delivery_rate_exclusive"
        )


def readings(lake: Lake) -> tuple[Reading, ...]:
    """How each account's counts are read, as of the published warehouse.

    Returns:
        None of them if there is no warehouse yet, or one of an older version.

    Raises:
        ArchiveError: the warehouse can't be read.
    """
    return tuple(
        Reading(**row) for row in ask_warehouse(lake, engine.sql("pipeline.outputs", "readings"))
    )
