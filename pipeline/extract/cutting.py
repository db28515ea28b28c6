"""Splitting a window whose listing takes too many pages, or that the API ended early.

How many pages a window has is estimated from the pages so far. A wrong estimate costs requests, but never
coverage (R4): a part that is still too big is split again.
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
"""A window is split before its page budget is used up only if it is expected to have this many times the
pages listed so far: its parts list those pages again."""

_SLOW_BUDGETS: Final = 3
"""Until a listing has taken this many page budgets, it continues if the expected rest is at most half of the
pages so far. After that, the permitted rest shrinks with each page."""

_MANY: Final = 12
"""A capped window is split into at most this many parts."""

_ROUND: Final = 500
"""APIs cap results at round numbers: a listing with a multiple of this many records may have been capped."""

Ended: TypeAlias = Literal["complete", "outgrown", "capped"]
"""How a listing ended. complete: with its last page. outgrown: the window is too big. capped: the API refused
the next page's token, or returns no more than a number of results."""


def may_be_capped(pages: Sequence[Page]) -> bool:
    """Whether a listing may have been capped without an error: its number of records is round."""
    records = sum(page.records for page in pages)
    return records > 0 and records % _ROUND == 0


def outgrows(
    window: Window, pages: Sequence[Page], found: Sequence[pa.Table], max_pages: int
) -> bool:
    """Whether to stop listing a window and to list it in parts.

    Args:
        window: the window.
        pages: the pages so far.
        found: the operations of these pages that are in the window.
        max_pages: the page budget of one listing.
    """
    inside = sum(table.num_rows for table in found)
    is_full = inside >= max_pages * max(page.records for page in pages)
    if not inside or not (is_full or len(pages) * _WORTH_CUTTING <= max_pages):
        return False
    expected = _expected_pages(window, pages)
    if expected > max(max_pages, len(pages) * _WORTH_CUTTING):
        return True
    # A listing that is nearly done continues, since its parts would list all its pages again. The estimate
    # may be too low: the more pages a listing has taken, the fewer may be left.
    left = max_pages * max_pages / len(pages)
    if len(pages) < _SLOW_BUDGETS * max_pages:
        left = max(left, len(pages) / 2)
    return is_full and not len(pages) < expected < len(pages) + left


def _expected_pages(window: Window, pages: Sequence[Page]) -> float:
    """The estimated number of pages of a window; 0 if the records are not in order of creation.

    In ascending or descending order, the records so far span a known part of the window. The API's reference
    documents no order.
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
    """Two or more parts of a window that was not listed completely.

    Each is to have about `WINDOW_PAGES` pages, or after a cap about as many as were listed, if the rest of
    the window is as dense as the span of the records so far. A window of many slots is split into parts of
    at most about two slots, because the number of operations varies with the hour.
    """
    in_order = _expected_pages(window, pages)
    if ended == "capped":
        return tuple(cut(window, max(min(math.ceil(in_order / len(pages)), _MANY), 2)))
    created = listed["created_at"]
    span = (pc.max(created).as_py() - pc.min(created).as_py()) / (window.end - window.start)
    # At most 100 times the pages so far: a burst in the first second says little about the rest.
    expected = min(max(len(pages) / max(span, 0.01), in_order), 100 * len(pages))
    slots = sum(1 for _ in window.slots())
    return tuple(cut(window, max(math.ceil(expected / WINDOW_PAGES), slots // 2, 2)))
