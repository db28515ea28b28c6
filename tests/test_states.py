"""Which states there are: what scans hold, put together."""

from datetime import datetime, timedelta

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lake.states import distinct_states, gathered
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
