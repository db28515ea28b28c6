"""Parses a page that matches the reference exactly into an Arrow table.

msgspec decodes the page into structs, and raises an error for a page that does not match them. `parsing`
parses such a page record by record.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple

from pipeline.model.schema import COUNT_NAMES, RECORD_SCHEMA, TIMESTAMP
from pipeline.twilio.conversion import KNOWN_FIELDS, MAX_COUNT

_ABSENT: Final = -1
_TIME_LENGTH: Final = len("2026-11-20T10:00:00Z")

_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Text = Annotated[str, Meta(min_length=1)]
_Time = Annotated[str, Meta(min_length=_TIME_LENGTH, max_length=_TIME_LENGTH)]
_Stats = msgspec.defstruct(
    "_Stats",
    [(name, _Count, _ABSENT) for name in COUNT_NAMES],
    forbid_unknown_fields=True,
    gc=False,
)


class _Record(Struct, forbid_unknown_fields=True, gc=False):
    id: _Text
    status: _Text
    stats: _Stats  # type: ignore[valid-type]  # made from the schema
    createdAt: _Time  # noqa: N815 - the API's name
    updatedAt: _Time  # noqa: N815 - the API's name


class _Pagination(Struct, forbid_unknown_fields=True):
    next: str | UnsetType | None = UNSET
    self: str | UnsetType | None = UNSET


class _Page(Struct, forbid_unknown_fields=True):
    operations: list[_Record] | UnsetType = UNSET
    data: list[_Record] | UnsetType = UNSET
    pagination: _Pagination | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(_Page)


def read_page(body: bytes) -> tuple[pa.Table, str | None] | None:
    """The records of a page as `schema.RECORD_SCHEMA`, in order, and the token of the next page.

    Returns:
        None if the page does not match the reference, or would lose data here.
    """
    try:
        page = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    lists = [found for found in (page.operations, page.data) if found is not UNSET]
    if len(lists) != 1:
        return None
    (records,) = lists
    counts = np.array([astuple(record.stats) for record in records], np.int64)
    counts = counts.reshape(len(records), len(COUNT_NAMES))
    absent = counts == _ABSENT
    # If a field occurs twice, msgspec silently keeps the last. Counting strings detects that.
    if _strings_of(page, len(records), int(absent.sum())) != _strings_in(body):
        return None
    times = _times([r.createdAt for r in records] + [r.updatedAt for r in records])
    if times is None:
        return None
    columns = [
        pa.array([record.id for record in records], pa.string()),
        pa.array([record.status for record in records], pa.string()),
        *(pa.array(counts[:, n], mask=absent[:, n]) for n in range(len(COUNT_NAMES))),
        times[: len(records)],
        times[len(records) :],
        pa.nulls(len(records), pa.string()),
    ]
    token = UNSET if page.pagination is UNSET else page.pagination.next
    return pa.table(columns, schema=RECORD_SCHEMA), None if token is UNSET else token


def _strings_of(page: _Page, records: int, absent: int) -> int:
    """The number of strings in a page's JSON, names and values, if each field occurs once."""
    texts = len(KNOWN_FIELDS - {"stats"})
    strings = 1 + records * (len(KNOWN_FIELDS) + texts + len(COUNT_NAMES)) - absent
    if page.pagination is not UNSET:
        fields = (page.pagination.next, page.pagination.self)
        strings += 1 + sum((text is not UNSET) + isinstance(text, str) for text in fields)
    return strings


def _strings_in(body: bytes) -> int:
    """The number of strings in a JSON text."""
    quotes = int(np.count_nonzero(np.frombuffer(body, np.uint8) == ord('"')))
    if b"\\" in body:
        quotes -= body.replace(rb"\\", b"").count(rb"\"")
    return quotes // 2


def _times(texts: Sequence[str]) -> pa.TimestampArray | None:
    """UTC times; None if one does not have the usual format: whole seconds with ``Z``."""
    times = pa.array(texts, pa.string())
    # pyarrow also accepts times without a zone, and the year 0, which Python does not have.
    usual = pc.and_not(pc.ends_with(times, "Z"), pc.starts_with(times, "0000"))
    if not pc.all(usual, min_count=0).as_py():
        return None
    try:
        return pc.cast(times, TIMESTAMP)
    except pa.ArrowInvalid:
        return None
