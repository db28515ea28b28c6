"""Decides when to split a window while it is listed, and into which parts.

A window is split if it is too big, or if the API ends its listing early. These are estimates, which never
decide what is covered (R4): a part that is still too big is split again.
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
"""A listing is stopped early only if it is expected to take this many times the pages listed so far, since
its parts list those again."""

_SLOW_BUDGETS: Final = 3
"""Up to this many page budgets, a listing continues if at most half as many pages as so far are expected to
remain; beyond, the limit falls with each page."""

_MANY: Final = 12
"""The most parts of a capped window."""

_ROUND: Final = 500
"""A listing whose number of records is a multiple of this may have been capped without an error."""

Ended: TypeAlias = Literal["complete", "outgrown", "capped"]
"""How a listing ended: with its last page (complete), because it is too big (outgrown), or because the API
refuses tokens or stops after a number of results (capped)."""


def may_be_capped(pages: Sequence[Page]) -> bool:
    """Whether a listing may have been capped: its number of records is round."""
    records = sum(page.records for page in pages)
    return records > 0 and records % _ROUND == 0


def outgrows(
    window: Window, pages: Sequence[Page], found: Sequence[pa.Table], max_pages: int
) -> bool:
    """Whether to stop listing a window and list it in parts."""
    inside = sum(table.num_rows for table in found)
    is_full = inside >= max_pages * max(page.records for page in pages)
    if not inside or not (is_full or len(pages) * _WORTH_CUTTING <= max_pages):
        return False
    expected = _expected_pages(window, pages)
    if expected > max(max_pages, len(pages) * _WORTH_CUTTING):
        return True
    # A listing that is nearly done continues, since its parts would repeat all its pages. The more pages it
    # has taken, the fewer may be left: the estimate may be too low.
    left = max_pages * max_pages / len(pages)
    if len(pages) < _SLOW_BUDGETS * max_pages:
        left = max(left, len(pages) / 2)
    return is_full and not len(pages) < expected < len(pages) + left


def _expected_pages(window: Window, pages: Sequence[Page]) -> float:
    """The estimated number of pages of a window, if the records so far are in order of creation; otherwise 0.

    The reference documents no order, so this decides only when to split, and never what is covered (R4).
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

    Their number is an estimate. If the API lists in order of creation, the records so far span a part of
    the window, and the rest is extrapolated from it. Otherwise the estimate is too low, and parts are split
    again. A window of many slots is split into parts of about two slots: rates change with the hours.
    """
    in_order = _expected_pages(window, pages)
    if ended == "capped":
        return tuple(cut(window, max(min(math.ceil(in_order / len(pages)), _MANY), 2)))
    created = listed["created_at"]
    span = (pc.max(created).as_py() - pc.min(created).as_py()) / (window.end - window.start)
    # At most a hundred times the pages so far: a burst in the first second says little about the rest.
    expected = min(max(len(pages) / max(span, 0.01), in_order), 100 * len(pages))
    slots = sum(1 for _ in window.slots())
    return tuple(cut(window, max(math.ceil(expected / WINDOW_PAGES), slots // 2, 2)))
