"""The lake's tables as SQL, and the views that say what its coverage amounts to."""

from datetime import datetime, timedelta

import pyarrow as pa

from pipeline import engine
from pipeline.lake.layout import Lake
from pipeline.schema import COVERAGE, SLOT_COVERAGE, Table
from pipeline.windows import FINAL_WITHIN, RETENTION, RISK_WITHIN

_HOUR = timedelta(hours=1)


def select(lake: Lake, table: Table) -> str:
    """All rows of a lake table with the hive keys as proper types; none if it has no file yet."""
    columns = ", ".join(f"{c.name}::{c.sql_type} AS {c.name}" for c in table.published)
    if any(lake.part(table, partition).exists() for partition in lake.partitions(table.name)):
        files = engine.literal(lake.glob(table))
        return engine.render(engine.sql("pipeline", "view"), columns=columns, files=files)
    nothing = ", ".join(f"NULL AS {c.name}" for c in table.published)
    return engine.render(engine.sql("pipeline", "empty_view"), columns=columns, nothing=nothing)


def coverage_slots(moments: str) -> str:
    """The query of coverage_slots, as of the moments that another query gives."""
    return engine.render(
        engine.sql("pipeline", "coverage_slots"),
        moments=moments,
        retention_hours=str(RETENTION // _HOUR),
        final_hours=str(FINAL_WITHIN // _HOUR),
        risk_hours=str(RISK_WITHIN // _HOUR),
    )


def slot_states(lake: Lake, now: datetime) -> pa.Table:
    """What the scans of every slot amount to at `now`, or at the latest scan if that is later.

    Returns:
        Rows of `schema.COVERAGE_SLOTS`, by account and slot.
    """
    moments = engine.render(engine.sql("pipeline", "asked_at"), now=engine.literal(now.isoformat()))

    def asked() -> pa.Table:
        with engine.connect() as connection:
            for table in (COVERAGE, SLOT_COVERAGE):
                connection.execute(f"CREATE VIEW {table.name} AS {select(lake, table)}")
            return connection.sql(coverage_slots(moments)).to_arrow_table()

    return engine.asking_again(asked)
