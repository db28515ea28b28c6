"""The latest days on which a rate left its band: what the warehouse's delivery_anomalies has of them."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from pipeline.lake import engine
from pipeline.lake.layout import Lake
from pipeline.outputs.published import ask_warehouse

LATEST_DAYS: Final = 28
"""How long an anomaly is one of the latest: as long as the days that tell what to expect."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A day on which a rate left its band; see `schema.DELIVERY_ANOMALIES`.

    Attributes:
        account_id: the account.
        created_date: the UTC day of creation.
        rate: which rate: delivery_rate, open_rate, undelivered_rate, failure_rate.
        value: what it was.
        expected: the median of the days before.
        low: the band's lower end.
        high: the band's upper end.
        age_days: how many days before the account's newest day with operations it was.
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
    """The anomalies of each account's last 28 days, the newest first, as of the published warehouse.

    Returns:
        None of them if there is no warehouse yet, or one of an older version.

    Raises:
        ArchiveError: the warehouse can't be read.
    """
    query = engine.render(engine.sql("pipeline.quality", "latest_anomalies"), days=str(LATEST_DAYS))
    return tuple(Anomaly(**row) for row in ask_warehouse(lake, query))
