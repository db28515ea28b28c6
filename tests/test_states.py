"""Which states there are: what scans hold, put together."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lake.parquet import are_same
from pipeline.lake.states import distinct_states, gathered, merged, newest_states, news
from pipeline.schema import OPERATIONS
from tests.support.factories import NOON, operation_id, record, scan

HOUR = timedelta(hours=1)


@example([[(0, 0, 0)], [(0, 0, 0)]])
@example([[(0, 0, 0), (1, 0, 0)], [(1, 0, 1), (2, 0, 0)]])
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(0, 3)), max_size=8),
        max_size=6,
    )
)
def test_scans_gathered_by_what_overlaps_are_all_their_states_once_and_in_order(found):
    """R1, R5: the first sighting of each state, whatever the scans hold and how they lie to each other."""
    tables = [
        pa.concat_tables(
            [OPERATIONS.arrow.empty_table()]
            + [
                scan([record(n, stats={"opened": o})], observed_at=NOON + seen * HOUR).operations
                for n, o, seen in states
            ]
        )
        for states in found
    ]
    expected: dict[tuple[str, int], datetime] = {}
    for n, o, seen in (one for states in found for one in states):
        key, moment = (operation_id(n), o), NOON + seen * HOUR
        expected[key] = min(moment, expected.get(key, moment))
    gathering = list(tables)
    states = gathered(gathering)
    assert gathering == []
    assert all(column.num_chunks <= 1 for column in states.columns)
    told = [(r["operation_id"], r["opened"], r["observed_at"]) for r in states.to_pylist()]
    assert {(i, o): seen for i, o, seen in told} == expected
    assert len(told) == len(expected)
    assert [i for i, _, _ in told] == sorted(i for i, _, _ in told)
    assert distinct_states(OPERATIONS.arrow.empty_table(), states).equals(states)


ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)),
    max_size=9,
)


def seen(found: list[tuple[int, int, int, int]]) -> pa.Table:
    """States in their order: which operation, its opened emails, when it was updated, when it was seen."""
    return pa.concat_tables(
        [OPERATIONS.arrow.empty_table()]
        + [
            scan(
                [record(n, stats={"opened": o}, updated_at=NOON + updated * HOUR)],
                observed_at=NOON + (5 + when) * HOUR,
            ).operations
            for n, o, updated, when in found
        ]
    )


NOTHING = OPERATIONS.arrow.empty_table()


@example([(0, 0, 0, 0), (1, 0, 0, 0)], [[(1, 0, 0, 1), (0, 0, 0, 1)]])  # not in the order of ids
@example([(1, 0, 0, 0), (3, 0, 0, 0)], [[(0, 0, 0, 1), (1, 1, 1, 1), (2, 0, 0, 1), (3, 0, 0, 1)]])
@example([(1, 0, 0, 3)], [[(1, 0, 0, 1)]])  # known, and seen earlier
@example([(0, 0, 0, 0)], [[(9, 0, 0, 1)], [(9, 0, 0, 1)], []])  # beyond the last one
@given(ROWS, st.lists(ROWS, max_size=4))
def test_day_that_is_known_is_with_news_what_it_would_be_from_all_that_was_seen(before, scans):
    """R1 to R3, R5: however the scans lie to what is known, and in whatever order they come."""
    known = distinct_states(NOTHING, seen(before))
    operations = newest_states(known)
    if known.equals(operations):
        known = operations  # as a fold has it where both files are the same
    tables = [seen(found) for found in scans]
    unknown, count = news(operations, tables)
    assert tables == []
    assert count == len({one[0] for found in scans for one in found})

    history = distinct_states(NOTHING, seen([*before, *(one for found in scans for one in found)]))
    newest = newest_states(history)
    assert history.equals(known) or unknown.num_rows
    if not unknown.num_rows:
        return
    for is_whole in {False, operations.num_rows > 0}:
        after = merged(known, operations, unknown, is_whole=is_whole)
        assert after.history.equals(history)
        assert after.operations.equals(newest)
        was = {row["operation_id"]: row for row in operations.to_pylist()}
        now = {row["operation_id"]: row for row in newest.to_pylist()}
        assert after.new == len(now.keys() - was.keys())
        assert after.changed == sum(now[one] != row for one, row in was.items())


def test_files_are_the_same_if_both_are_there_with_the_same_bytes(tmp_path: Path):
    paths = [tmp_path / name for name in ("same", "as-well", "longer", "other", "empty", "none")]
    for path, content in zip(paths, (b"ab", b"ab", b"abc", b"ba", b""), strict=False):
        path.write_bytes(content)
    assert [are_same(paths[0], path) for path in paths] == [True, True, False, False, False, False]
    assert not are_same(paths[-1], paths[-1])
