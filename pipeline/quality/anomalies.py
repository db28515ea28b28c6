"""The latest anomalies: days on which a rate left its expected range, from delivery_anomalies."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.outputs.published import ask_warehouse

LATEST_DAYS: Final = 28
"""Days in which an anomaly counts as one of the latest: as many as the expected range is computed from."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A day on which a rate left its expected range; see `schema.DELIVERY_ANOMALIES`.

    Attributes:
        account_id: the account.
        created_date: the UTC day of creation.
        rate: which rate: delivery_rate, open_rate, undelivered_rate, failure_rate.
        value: the rate on that day.
        expected: the median of the days before.
        low: the lower end of the range.
        high: the upper end of the range.
        age_days: days between it and the account's newest day with operations.
    """

    account_id: str
    created_date: date
    rate: str
    value: float
    expected: float
    low: float
    high: float
    age_days: int

    def __str__(self) -> str:
        return (
            f"{self.created_date} {self.rate} {self.value:.2%}, "
            f"expected {self.low:.2%} to {self.high:.2%}"
        )


def latest_anomalies(lake: Lake) -> tuple[Anomaly, ...]:
    """The anomalies of each account's last 28 days, the newest first, from the published warehouse.

    Returns:
        Empty if there is no warehouse yet, or one of an older version.

    Raises:
        ArchiveError: the warehouse can't be read.
    """
    query = engine.render(engine.sql("pipeline.quality", "latest_anomalies"), days=str(LATEST_DAYS))
    return tuple(Anomaly(**row) for row in ask_warehouse(lake, query))
