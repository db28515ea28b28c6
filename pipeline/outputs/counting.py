"""The reading of each account's counts: cumulative or exclusive.

The evidence is in the mart `counting_evidence`, by day; ``sql/counting.sql`` sums it up. docs/counting.md has
the cases and the rule.
"""

from dataclasses import dataclass
from typing import Final

from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.outputs.published import ask_warehouse

FEWEST_OPERATIONS: Final = 5
"""The least number of operations that distinguish two readings: fewer may all be late or lost events."""

CLEAR_SHARE: Final = 0.9
"""The share of these operations that must support a reading, and the share of all operations that distinguish
models which its model must explain."""

PARTS: Final = {"fewest": str(FEWEST_OPERATIONS), "clear": str(CLEAR_SHARE)}
"""The values in ``sql/counting.sql``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of an account's counts that its rates use; see `schema.COUNTING`.

    Attributes:
        account_id: the account.
        reading: cumulative (`delivered` includes opened emails) or exclusive (it does not).
        decided: whether the account's counts decide it; otherwise it is assumed.
        evidence: the evidence in one sentence.
        matters: whether any email was opened; if none was, the rates are the same under both readings.
    """

    account_id: str
    reading: str
    decided: bool
    evidence: str
    matters: bool

    @property
    def warning(self) -> str | None:
        """A warning for readers of rates; None if the reading is decided or makes no difference."""
        if self.decided or not self.matters:
            return None
        return (
            f"rates assume {self.reading} counting, which the account's counts don't decide: {self.evidence} "
            "delivery_readings has both: delivery_rate_cumulative and delivery_rate_exclusive"
        )


def readings(lake: Lake) -> tuple[Reading, ...]:
    """The reading of each account, from the published warehouse.

    Returns:
        The readings; none if there is no warehouse yet, or an older version's.

    Raises:
        ArchiveError: the warehouse can't be read.
    """
    return tuple(
        Reading(**row) for row in ask_warehouse(lake, engine.sql("pipeline.outputs", "readings"))
    )
