"""When a listing is given up for its parts, and which: an API may end one early, or a window be too big.

A guess, which never says what was covered (R4): a part that is too big is cut again.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.extract.planner import WINDOW_PAGES, cut
from pipeline.model.windows import Window
from pipeline.twilio.client import Page

_WORTH_CUTTING: Final = 8
"""A listing is given up early for its parts only if it is expected to take so many times as many pages
as it has taken: its parts list them again."""

_SLOW_BUDGETS: Final = 3
"""Up to so many budgets a listing goes on if it expects half as many pages again at the most; beyond, if it
expects ever fewer."""

_MANY: Final = 12
"""Parts that a capped window is cut into at the most."""

_ROUND: Final = 500
"""A listing that ends with a multiple of so many records may have been capped there, without a word."""

Ended: TypeAlias = Literal["complete", "outgrown", "capped"]
"""How a listing ended: with its last page; with its budget; or before its end, as an API does that refuses
tokens beyond a number of results, or stops there."""


def may_be_capped(pages: Sequence[Page]) -> bool:
    """Whether a listing that ended may have been capped: it has a round number of records."""
    records = sum(page.records for page in pages)
    return records > 0 and records % _ROUND == 0


def outgrows(
    window: Window, pages: Sequence[Page], found: Sequence[pa.Table], max_pages: int
) -> bool:
    """Whether the rest of a window is better listed in parts."""
    inside = sum(table.num_rows for table in found)
    is_full = inside >= max_pages * max(page.records for page in pages)
    if not inside or not (is_full or len(pages) * _WORTH_CUTTING <= max_pages):
        return False
    expected = _expected_pages(window, pages)
    if expected > max(max_pages, len(pages) * _WORTH_CUTTING):
        return True
    # What is nearly done is not begun again for a little more speed: its parts would list again all
    # that was listed. The longer it has gone on the less may be left: more may come than expected.
    left = max_pages * max_pages / len(pages)
    if len(pages) < _SLOW_BUDGETS * max_pages:
        left = max(left, len(pages) / 2)
    return is_full and not len(pages) < expected < len(pages) + left


def _expected_pages(window: Window, pages: Sequence[Page]) -> float:
    """How many pages a window will take, if what came so far is in order of creation; else 0.

    The reference documents no order. So this only says when to cut, and never what was covered (R4).
    """
    created = pa.concat_arrays([c for p in pages for c in p.operations["created_at"].chunks])
    first, last = created[0].as_py(), created[-1].as_py()
    end = min(window.end, pages[0].observed_at)
    if pc.all(pc.less_equal(created[:-1], created[1:]), min_count=0).as_py():
        listed = last - window.start
    elif pc.all(pc.greater_equal(created[:-1], created[1:])).as_py():
        listed = end - last
    else:
        return 0.0
    if first == last or listed <= timedelta():
        return 0.0
    return len(pages) * float((end - window.start) / listed)


def parts_of(
    window: Window, listed: pa.Table, pages: Sequence[Page], ended: Ended
) -> tuple[Window, ...]:
    """A window that was not listed completely, in two or more.

    How many is a guess: if the API answers in order of creation, what came spans a part of the window
    that tells the rest. If it does not, that guess is too small, and parts will be cut again. A big window of
    many slots is cut into pairs of these at least: rates change with the hours.
    """
    in_order = _expected_pages(window, pages)
    if ended == "capped":
        return tuple(cut(window, max(min(math.ceil(in_order / len(pages)), _MANY), 2)))
    created = listed["created_at"]
    span = (pc.max(created).as_py() - pc.min(created).as_py()) / (window.end - window.start)
    # Not more than a hundred times: a burst in the first second says little of the rest of the day.
    expected = min(max(len(pages) / max(span, 0.01), in_order), 100 * len(pages))
    slots = sum(1 for _ in window.slots())
    return tuple(cut(window, max(math.ceil(expected / WINDOW_PAGES), slots // 2, 2)))
