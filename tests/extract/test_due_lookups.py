"""Which lookups by id are due: pure."""

import itertools
from datetime import datetime, timedelta
from typing import Any

from pipeline.extract.planner import RefreshPolicy, due_lookups, lookups_within
from pipeline.model.records import Partition, PendingLookup
from pipeline.model.windows import deadline
from tests.support.factories import ACCOUNT, NOON, at, operation_id

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
POLICY = RefreshPolicy()


def watch(subject: Any = "operation", **fields: Any) -> PendingLookup:
    usual = {"created_at": NOON, "observed_at": NOON}
    return PendingLookup(
        Partition(ACCOUNT, NOON.date()), operation_id(1), subject, **(usual | fields)
    )


def test_operation_is_looked_up_from_2_hours_before_its_deadline():
    end = deadline(NOON)
    assert due_lookups([watch()], POLICY, end - 2 * HOUR - timedelta(seconds=1)) == []
    assert due_lookups([watch()], POLICY, end - 2 * HOUR) == [watch()]


def test_intervals_between_questions_grow():
    now = deadline(NOON) - 2 * HOUR
    asked: list[datetime] = []
    while now < deadline(NOON) + 30 * DAY:
        if due_lookups([watch(requested_at=asked[-1] if asked else None)], POLICY, now):
            asked.append(now)
        now += timedelta(minutes=10)
    steps = [after - before for before, after in itertools.pairwise(asked)]
    assert steps == sorted(steps)
    assert steps[0] == timedelta(minutes=60)
    assert 3 * DAY < steps[-1] < 4 * DAY
    assert len(asked) < 60


def test_errors_are_looked_up_while_the_api_may_know_them():
    one = watch("errors", failed=2)
    assert due_lookups([one], POLICY, NOON + HOUR) == [one]
    assert due_lookups([one], POLICY, deadline(NOON)) == []
    seen_late = watch("errors", failed=2, observed_at=deadline(NOON) + DAY)
    assert due_lookups([seen_late], POLICY, deadline(NOON) + 1.5 * DAY) == [seen_late]
    assert due_lookups([seen_late], POLICY, deadline(NOON) + 2.5 * DAY) == []


def test_refused_errors_are_looked_up_again_before_the_deadline():
    """A refusal 16 hours before the deadline, of failures that are 6 days old, is not the last word."""
    created = at("2026-11-13 12:00")
    requested_at = deadline(created) - 16 * HOUR
    watched = PendingLookup(
        Partition(ACCOUNT, created.date()),
        operation_id(1),
        "errors",
        created,
        created + HOUR,
        failed=2,
        requested_at=requested_at,
    )
    assert due_lookups([watched], POLICY, requested_at + HOUR / 2) == []
    assert due_lookups([watched], POLICY, requested_at + 8 * HOUR) == [watched]
    assert due_lookups([watched], POLICY, requested_at + 2 * DAY) == []


def test_nearest_deadlines_are_looked_up_first_within_the_budget():
    now = deadline(NOON)
    ones = [
        watch("errors", created_at=NOON + n * HOUR, observed_at=now, failed=1) for n in range(1, 6)
    ]
    due = due_lookups(reversed(ones), POLICY, now)
    assert due == ones
    tight = RefreshPolicy(requests=20)
    assert lookups_within(due, tight, 17) == ones[:3]
    assert lookups_within(due, tight, 500) == ones[:2]
    assert lookups_within(due, POLICY, 500) == ones
