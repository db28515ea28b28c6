"""Strategies for responses: valid, drifting and broken records, pages of them, and mutated bytes."""

import json

from hypothesis import strategies as st

from pipeline.model.schema import COUNT_NAMES, STATUSES
from tests.support.factories import operation_id

NUMBERS = (
    *("0", "-0", "1", "-1", "9223372036854775807", "9223372036854775808", "1.0", "0.10", "-0.0"),
    *("1e2", "1E-2", "1e400", "-1e400", "1e9999999999", "1e-9999999999", "0e0"),
    *("1e99999999999999999999", "1e-99999999999999999999", "NaN", "Infinity", "-Infinity"),
    *("9" * 4300, "9" * 4301, "0." + "3" * 500),
)
"""Numbers as they may be written, though not all of them are JSON."""
TIMES = (
    *("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.123456789Z"),
    *("2026-11-20T10:00:00+01:00", "2026-11-20t10:00:00.0000000-00:30", "2026-11-20 10:00:00z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01"),
    *("9999-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01", "2026-02-30T10:00:00Z"),
    *("2026-11-20T24:00:00Z", "2016-12-31T23:59:60Z", "2026-11-20T10:00:00+05:99"),
    *("2026-11-20T10:00:00+24:00", "2026-11-20", "2026-11-20T10:00:00", "20261120T100000Z"),
    *("2026-11-2\u0660T10:00:00Z", "", "never", "2026-11-20T10:00:00.Z", "2026-11-20T103000.1Z"),
)
TEXTS = ("", "null", '"', "\\", "\0", "\u2028", "é", "😀", "\ud800", "\udc80", '"next":null', "[{")
"""Texts that something between the API and a file might stumble over."""

names = st.sampled_from(
    [*COUNT_NAMES, "id", "status", "stats", "createdAt", "updatedAt", "extra", "next", "self", ""]
) | st.text(max_size=6)
texts = st.sampled_from(TEXTS) | st.text(max_size=12)
ids = st.integers(0, 10**6).map(operation_id)
times = st.sampled_from(TIMES)
whole_seconds = st.datetimes().map(lambda moment: f"{moment.replace(microsecond=0).isoformat()}Z")
good_times = st.one_of(whole_seconds, whole_seconds, whole_seconds, st.sampled_from(TIMES[:6]))


def quoted(text: str, *, escaped: bool) -> str:
    """A text as JSON; half of a surrogate pair is escaped in any case."""
    readable = json.dumps(text, ensure_ascii=escaped)
    try:
        readable.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return readable


json_texts = st.builds(lambda text, escaped: quoted(text, escaped=escaped), texts, st.booleans())
json_leaves = st.sampled_from([*NUMBERS, "null", "true", "false"]) | json_texts


def listed(items: list[str]) -> str:
    return f"[{', '.join(items)}]"


def objected(fields: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{quoted(name, escaped=False)}: {text}" for name, text in fields) + "}"


json_values = st.recursive(
    json_leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(listed)
        | st.lists(st.tuples(names, inner), max_size=3).map(objected)
    ),
    max_leaves=6,
)
deep_values = st.builds(
    lambda depth, kind: kind[0] * depth + "0" + kind[1] * depth,
    st.sampled_from([30, 61, 62, 63, 64, 65, 93, 94, 95, 96, 97, 98, 300]),
    st.sampled_from([("[", "]"), ('{"in":', "}")]),
)
"""JSON texts of every depth that matters."""


@st.composite
def records(draw: st.DrawFn) -> str:
    """A record's JSON: right in half of the cases; else with a few fields that drift or are broken."""
    stats = {name: str(draw(st.integers(0, 10_000))) for name in COUNT_NAMES}
    fields = {
        "id": json.dumps(draw(ids)),
        "status": json.dumps(draw(st.sampled_from(STATUSES))),
        "stats": "",
        "createdAt": json.dumps(draw(good_times)),
        "updatedAt": json.dumps(draw(good_times)),
    }
    pairs, counts = list(fields.items()), list(stats.items())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        _change(draw, draw(st.sampled_from([pairs, counts])))
    text = objected(counts)
    return objected([(name, value or text) for name, value in pairs])


def _change(draw: st.DrawFn, fields: list[tuple[str, str]]) -> None:
    """Take a field away, give one another value, or add one: it may be there already."""
    values = st.one_of(
        json_leaves, json_texts, st.just('""'), times.map(json.dumps), json_values, deep_values
    )
    place = draw(st.integers(0, max(len(fields) - 1, 0)))
    match draw(st.sampled_from(["remove", "replace", "add", "add"])):
        case "remove" if fields:
            del fields[place]
        case "replace" if fields:
            fields[place] = (fields[place][0], draw(values))
        case _:
            fields.insert(place, (draw(names), draw(values)))


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """A page of such records and, now and then, of anything; its envelope may drift too."""
    items = draw(st.lists(st.one_of(records(), records(), records(), json_values), max_size=4))
    token = draw(st.just("null") | json_texts)
    fields = [
        (draw(st.sampled_from(["operations", "operations", "data"])), listed(items)),
        ("pagination", objected([("next", token), ("self", '"s"')])),
    ]
    if draw(st.integers(0, 3)) == 0:
        name = st.sampled_from(["operations", "data", "pagination", "meta"]) | names
        value = json_values | deep_values | st.just(listed(items))
        fields.insert(draw(st.integers(0, 2)), (draw(name), draw(value)))
    return draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b" \n"])) + objected(fields).encode()


@st.composite
def usual_pages(draw: st.DrawFn) -> bytes:
    """A usual page with at most one unusual value: the fast parser may read it."""
    count = draw(st.integers(0, 4))
    items = [
        {
            "id": json.dumps(draw(ids)),
            "status": json.dumps(draw(st.sampled_from(STATUSES))),
            "createdAt": json.dumps(draw(whole_seconds)),
            "updatedAt": json.dumps(draw(whole_seconds)),
        }
        | {
            name: str(draw(st.integers(0, 10_000)))
            for name in draw(st.sets(st.sampled_from(COUNT_NAMES)))
        }
        for _ in range(count)
    ]
    if items and draw(st.booleans()):
        item = draw(st.sampled_from(items))
        name = draw(st.sampled_from(sorted(item)))
        odd = {"createdAt": times.map(json.dumps), "updatedAt": times.map(json.dumps)}
        odd |= {"id": json_texts, "status": json_texts}
        item[name] = draw(odd.get(name, st.sampled_from(NUMBERS)))
    texts_of = []
    for item in items:
        counts = objected([(name, text) for name, text in item.items() if name in COUNT_NAMES])
        fields = [(name, text) for name, text in item.items() if name not in COUNT_NAMES]
        texts_of.append(objected([*fields, ("stats", counts)]))
    token = draw(st.sampled_from(["null", '"t"']) | json_texts)
    pagination = objected([("next", token), ("self", '"s"')])
    return objected([("operations", listed(texts_of)), ("pagination", pagination)]).encode()


@st.composite
def error_answers(draw: st.DrawFn) -> bytes:
    """A response about an operation's errors."""
    error = st.builds(
        lambda code, message, more: objected([("code", code), ("message", message), *more]),
        json_leaves,
        json_leaves,
        st.lists(st.tuples(names, json_values | deep_values), max_size=1),
    )
    errors = listed(draw(st.lists(error | json_values, max_size=3)))
    page = [("errors", errors), ("pagination", objected([("next", draw(json_leaves))]))]
    twice = [*page, ("data", errors)]
    return draw(st.sampled_from([errors, objected(page), objected(twice)])).encode()


@st.composite
def wrecks(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A response with a few bytes flipped, cut, inserted or doubled."""
    body = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        length = draw(st.integers(1, 20))
        match draw(st.sampled_from(["flip", "cut", "end", "insert", "double"])):
            case "flip" if place < len(body):
                flipped = bytes([body[place] ^ (1 << draw(st.integers(0, 7)))])
                body = body[:place] + flipped + body[place + 1 :]
            case "cut":
                body = body[:place] + body[place + length :]
            case "end":
                body = body[:place]
            case "insert":
                body = body[:place] + draw(st.binary(min_size=1, max_size=4)) + body[place:]
            case _:
                body = body[: place + length] + body[place:]
    return body
