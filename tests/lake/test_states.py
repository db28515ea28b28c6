"""Merging against R1 to R3 in plain Python: whatever was seen, however it landed."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.lake.day import AT_ONCE
from pipeline.lake.landing import land, land_lookups
from pipeline.lake.layout import Lake
from pipeline.lake.merge import merge, rebuild_operations
from pipeline.model.records import LookupBatch, Scan
from pipeline.model.schema import LOOKUPS, OPERATION_ERRORS, OPERATIONS, REJECTS
from tests.support.factories import NOON, PARTITION, new_lake, record, scan, snapshot
from tests.support.states import distinct, newest

HOUR = timedelta(hours=1)
RETENTION_HOURS = 24 * 7

SIGHTING = st.tuples(
    st.integers(0, 5),  # the operation
    st.none() | st.integers(0, 2),  # its opened emails
    st.integers(0, 2),  # updated so many hours after its creation
)
LISTED = st.lists(SIGHTING, max_size=6)
HOURS = st.sampled_from([2, 3, 4, RETENTION_HOURS - 1, RETENTION_HOURS, RETENTION_HOURS + 3])
LANDED = st.lists(st.tuples(LISTED, HOURS, st.booleans()), min_size=1, max_size=5)
Landing = list[tuple[list[tuple[int, int | None, int]], int, bool]]


def seen(found: list[tuple[int, int | None, int]], at: datetime) -> Scan:
    records = [
        record(n, stats={"opened": opened}, updated_at=NOON + updated * HOUR)
        for n, opened, updated in found
    ]
    return scan(records, observed_at=at)


def put(lake: Lake, landings: Landing) -> list[dict[str, Any]]:
    """Land each as a scan, or as fetches by id; returns the sightings."""
    rows: list[dict[str, Any]] = []
    for found, hours, by_id in landings:
        at = NOON + hours * HOUR
        one = seen(found, at)
        states = one.operations
        if by_id:
            place = states.schema.get_field_index("looked_up_at")
            states = states.set_column(place, "looked_up_at", states["observed_at"])
            states = states.cast(OPERATIONS.arrow)
            rejects = REJECTS.arrow.empty_table().drop_columns(["scan_id"])
            none = LOOKUPS.arrow.empty_table(), OPERATION_ERRORS.arrow.empty_table()
            land_lookups(lake, LookupBatch(PARTITION, at, states, rejects, *none, requests=1))
        else:
            land(lake, one)
        rows += states.to_pylist()
    return rows


def tables(lake: Lake) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    found = snapshot(lake)
    empty: list[dict[str, Any]] = []
    return tuple(found.get(f"{name} {PARTITION}", empty) for name in ("history", "operations"))  # type: ignore[return-value]  # two


LATE = RETENTION_HOURS + 3


@settings(max_examples=25)
@example([([(0, 0, 0), (1, 0, 0)], 2, False)], [([(1, 0, 0), (0, 0, 0)], 3, False)], 1)
@example([([(1, 0, 0)], 3, False)], [([(1, 0, 0)], 2, False)], 1)  # known, and seen earlier
@example([([(0, 0, 0)], 2, False)], [([(0, 1, 0)], LATE, False)], 1)  # listed late: gives way
@example([([(0, 0, 0)], 2, False)], [([(0, 1, 0)], LATE, True)], 1)  # fetched late: counts
@example(
    [([(0, 0, 0)], 2, False), ([(0, 1, 0)], RETENTION_HOURS, False)], [([(0, 1, 0)], LATE, True)], 1
)
@example([([(0, 1, 0)], LATE, True)], [([(0, 1, 0)], 2, False)], 1)
@given(LANDED, LANDED, st.sampled_from([1, 2, 4, AT_ONCE]))
def test_merged_day_is_what_all_sightings_make(
    tmp_path_factory, first: Landing, then: Landing, at_once: int
):
    """R1 to R3, R5: in two merges, in one, in the other order, and taken together anew."""
    lake = new_lake(tmp_path_factory.mktemp("two"))
    rows = put(lake, first)
    merge(lake, PARTITION, at_once=at_once)
    before = tables(lake)[1]
    rows += put(lake, then)
    report = merge(lake, PARTITION, at_once=at_once)
    history = distinct(rows)
    assert tables(lake) == (history, newest(history))

    was, now = ({row["operation_id"]: row for row in one} for one in (before, newest(history)))
    listed = {row["operation_id"] for row in rows[len(rows) - sum(len(f) for f, *_ in then) :]}
    assert report.new == len(now.keys() - was.keys())
    assert report.changed == sum(now[one] != row for one, row in was.items())
    assert report.unchanged == len(listed) - report.new - report.changed
    assert (report.operations, report.states) == (len(now), len(history))

    rebuild_operations(lake, PARTITION)
    assert tables(lake) == (history, newest(history))
    at_once = new_lake(tmp_path_factory.mktemp("one"))
    put(at_once, [*then, *first])
    merge(at_once, PARTITION)
    assert tables(at_once) == tables(lake)
