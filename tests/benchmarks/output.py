"""The benchmark's figures as a table for the screen and as docs/refresh.md."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.model.windows import DAY
from tests.benchmarks.errors import Errors

OURS: Final = "this policy"
QUARTERLY: Final = "rescan 7 days every 15 minutes"
HOURLY: Final = "rescan 7 days every hour"
YESTERDAY: Final = "scan yesterday once"

_SHORT: Final = {
    QUARTERLY: "7 days/15 min",
    HOURLY: "7 days/hour",
    YESTERDAY: "yesterday",
}

PART: Final = 15
"""The target: at most this part of the requests of the rescan every 15 minutes."""

FINDING: Final = 144
"""The other target, where 7 days fit on few pages: at most twice the listings that finding new operations
every 10 minutes takes by itself."""

_PER: Final = 1_000


@dataclass(frozen=True, slots=True)
class Result:
    """One policy at one size of account.

    Attributes:
        per_day: operations per day.
        policy: its name.
        requests_per_day: on average over the measured days.
        errors: against the truth.
        clock_per_day: those of them that only read the API's clock.
        merges_per_day: how often a day's tables take in what a sync found.
    """

    per_day: int
    policy: str
    requests_per_day: float
    errors: Errors
    clock_per_day: float = 0.0
    merges_per_day: float = 0.0


def table(results: Sequence[Result], per_day: int) -> Table:
    """The figures of one size for a terminal of 80 characters or more."""
    shown = Table(
        title=f"{per_day:,} operations a day; missing are counts per {_PER:,} operations, on average",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    shown.add_column("", no_wrap=True)
    for name in (
        "requests\na day",
        "part of\n15 min",
        "missing <24 h\ndeliv.  opens",
        "missing <7 d\ndeliv.  opens",
        "final\nequal",
        "lost",
    ):
        shown.add_column(name, justify="right", no_wrap=True)
    for one in _of_size(results, per_day):
        errors = one.errors
        shown.add_row(
            _SHORT.get(one.policy, one.policy),
            _number(one.requests_per_day),
            _part(results, one),
            _columns(errors.young),
            _columns(errors.alive),
            _share(errors.equal),
            f"{errors.lost:,}",
        )
    return shown


def document(results: Sequence[Result], first: datetime, last: datetime, seed: int) -> str:
    """The figures for docs/refresh.md."""
    sizes = list(dict.fromkeys(one.per_day for one in results))
    ended = results[0].errors.ended
    parts = [
        f"""![Requests per day against what the archive misses](images/refresh.png)

- **this policy**: the default settings, a sync every 10 minutes.
  {_of_ours(results, sizes)}
- **{QUARTERLY}**, and **{HOURLY.removeprefix("rescan 7 days ")}**: one listing of the last
  7 days each time.
- **{YESTERDAY}**: one listing of the UTC day before, at 00:10.

Pages have 1,000 operations. Retries and lookups by id are not counted. The figures come from the
emulator's world (seed {seed}, {first:%Y-%m-%d} to {last - timedelta(seconds=1):%Y-%m-%d}) and are the
same on every machine.""",
        *(_section(results, per_day) for per_day in sizes),
        _first_and_last(results, ended),
        _targets(results, sizes),
        f"""### How it is measured

A simulation counts the requests; none is made. Windows are planned by the function that `email-archive
sync` uses, from the coverage of the simulated scans, and their pages are counted in the emulator's
world. A test compares this with real syncs of the emulator over HTTP: the requests of each sync, the
coverage of each slot, and each archived count agree.

World and policies start 8 days before the {(last - first) // DAY} measured days. *Missing* are
deliveries or opens that the truth has and the archive has not, in all operations younger than 7 days.
The average over time is computed every 5 minutes on a sample in which large operations have more
chances and less weight. The final numbers are compared for each of {ended:,} operations with the truth
in the last full minute of its 7 days. Both sizes use the operations of the larger account, where single
large mailings weigh less.""",
    ]
    return "\n\n".join(parts) + "\n"


def _of_ours(results: Sequence[Result], sizes: Sequence[int]) -> str:
    """What its requests are made of, and what it writes."""
    lines = ["Each reads the API's clock first, with one request."]
    for per_day in sizes:
        ours = _find(results, per_day, OURS)
        listings = ours.requests_per_day - ours.clock_per_day
        days = ours.merges_per_day / max(ours.clock_per_day, 1)
        lines.append(
            f"At {per_day:,} operations a day {listings:,.0f} requests are listings; "
            f"a sync merges {days:.1f} days."
        )
    return "\n  ".join(lines)


def _section(results: Sequence[Result], per_day: int) -> str:
    head = f"""### {per_day:,} operations a day

Deliveries / opens that the archive misses per {_PER:,} operations, on average:

| | requests a day | part of the 15-minute rescan's | under 24 h old | under 7 days old |
| --- | ---: | ---: | ---: | ---: |
"""
    rows = [
        f"| {one.policy} | {_number(one.requests_per_day)} | {_part(results, one)} "
        f"| {_both(one.errors.young)} | {_both(one.errors.alive)} |"
        for one in _of_size(results, per_day)
    ]
    return head + _lines(rows)


def _first_and_last(results: Sequence[Result], ended: int) -> str:
    columns = [
        "first seen after, mean",
        "last seen before the end, at most",
        f"missing at the end, deliveries / opens per {_PER:,}",
        "final numbers equal to the truth",
        "lost",
    ]
    head = f"""### First seen, last seen

The time from an operation's creation to the first scan that finds it, the time from the last scan that
finds it to the end of its 7 days, and what the archive has from then on. All {ended:,} operations whose
7 days ended during the measured days are counted.

| | {" | ".join(columns)} |
| --- |{" ---: |" * len(columns)}
"""
    rows = [
        f"| {name} | {one.errors.first_seen:.1f} min | {one.errors.last_seen:.2f} h "
        f"| {_both(one.errors.final)} | {_share(one.errors.equal)} | {one.errors.lost:,} |"
        for name, one in _distinct(results)
    ]
    return head + _lines(rows)


def _distinct(results: Sequence[Result]) -> list[tuple[str, Result]]:
    """Policies that scan the same at every size are one row; others name their size."""
    rows: dict[tuple[str, Errors], Result] = {}
    for one in sorted(results, key=lambda one: one.policy != OURS):
        rows.setdefault((one.policy, one.errors), one)
    policies = [policy for policy, _ in rows]
    return [
        (policy if policies.count(policy) == 1 else f"{policy}, {one.per_day:,} a day", one)
        for (policy, _), one in rows.items()
    ]


def _targets(results: Sequence[Result], sizes: Sequence[int]) -> str:
    head = "### Targets\n\n| | {} |\n| --- | {} |\n".format(
        " | ".join(f"{per_day:,} a day" for per_day in sizes),
        " | ".join("---" for _ in sizes),
    )
    columns = [targets(results, per_day) for per_day in sizes]
    rows = [f"| {name} | {' | '.join(c[name] for c in columns)} |" for name in columns[0]]
    return f"""{head}{_lines(rows)}

- **Requests.** Looking for new operations every 10 minutes takes at least {FINDING} listings a day. If
  7 days fit on few pages, 1/{PART} of the rescan's requests is less than that. The target is then twice
  as many.
- **Freshness.** Deliveries arrive within minutes, so they depend on how soon a new operation is found.
  Opens arrive over hours and days, and a slot that is scanned less often lags behind in opens.
- **Final numbers.** Changes between the last final scan, up to 30 minutes before the slot's deadline,
  and the end of an operation's 7 days are not observed. The deadline is that of the slot's first
  operation; the last one is kept an hour longer."""


def targets(results: Sequence[Result], per_day: int) -> dict[str, str]:
    """What was aimed at, and whether it was met at a size of account."""
    ours, rescan = _find(results, per_day, OURS), _find(results, per_day, QUARTERLY)
    mine, theirs = ours.errors, rescan.errors
    listings = ours.requests_per_day - ours.clock_per_day
    fresh = "under 24 h, the {} are as fresh as the 15-minute rescan's"
    return {
        f"at most 1/{PART} of the 15-minute rescan's requests, or {2 * FINDING} listings a day": _verdict(
            PART * ours.requests_per_day <= rescan.requests_per_day or listings <= 2 * FINDING,
            f"{_part(results, ours)}, {listings:,.0f} listings",
        ),
        "new operations are seen as soon as by the 15-minute rescan": _verdict(
            mine.first_seen <= theirs.first_seen,
            f"{mine.first_seen:.1f} min against {theirs.first_seen:.1f} min",
        ),
        **{
            fresh.format(name): _verdict(
                own <= other, f"{_number(_PER * own)} missing against {_number(_PER * other)}"
            )
            for name, own, other in zip(
                ("deliveries", "opens"), mine.young, theirs.young, strict=True
            )
        },
        "final numbers equal the truth": _verdict(mine.equal == 1, f"{_share(mine.equal)} of them"),
        "none lost": _verdict(mine.lost == 0, f"{mine.lost:,} of {mine.ended:,}"),
    }


def _verdict(is_met: bool, figures: str) -> str:
    return f"{'met' if is_met else 'missed'}: {figures}"


def _of_size(results: Sequence[Result], per_day: int) -> list[Result]:
    return [one for one in results if one.per_day == per_day]


def _find(results: Sequence[Result], per_day: int, policy: str) -> Result:
    return next(one for one in _of_size(results, per_day) if one.policy == policy)


def _part(results: Sequence[Result], one: Result) -> str:
    rescan = _find(results, one.per_day, QUARTERLY)
    part = rescan.requests_per_day / one.requests_per_day
    return "1" if one.policy == QUARTERLY else f"1/{part:.1f}" if part < 100 else f"1/{part:.0f}"


def _lines(rows: Sequence[str]) -> str:
    return "\n".join(rows)


def _both(pair: tuple[float, float]) -> str:
    return " / ".join(_number(_PER * value) for value in pair)


def _columns(pair: tuple[float, float]) -> str:
    first, second = (_number(_PER * value) for value in pair)
    return f"{first} {second:>6}"


def _number(value: float) -> str:
    """Three digits or so: more would not be true."""
    digits = sum(value < bound for bound in (99.95, 9.995, 0.0995))
    return f"{value:,.{digits}f}"


def _share(value: float) -> str:
    """Never 100% unless it is all."""
    return "all" if value == 1 else f"{100 * value:.3f}%"
