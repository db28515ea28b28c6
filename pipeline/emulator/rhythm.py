"""When operations are created: more by day than by night, and on weekdays than on weekends.

The rhythm gives the number of operations as a function of time; its inverse gives the time of each operation.
Numbers are in mean hours: the operations of an average hour are 1.
"""

from typing import Final

import numpy as np

from pipeline.emulator.chance import Floats, Ints, uniform

HOUR_MS: Final = 3_600_000
WEEK_HOURS: Final = 168

_BY_HOUR: Final = np.array(
    [2, 1, 1, 1, 1, 2, 4, 7, 10, 13, 14, 13, 11, 12, 13, 12, 11, 10, 9, 8, 7, 6, 4, 3], dtype=float
)
_BY_WEEKDAY: Final = np.array([1.1, 1.2, 1.2, 1.15, 1.05, 0.65, 0.65])
_RHYTHM: Final = np.outer(_BY_WEEKDAY, _BY_HOUR).ravel()


def _cumulative(seed: int, week: int) -> Floats:
    """Cumulated operations by hour of a week, in mean hours; weeks differ."""
    hours = week * WEEK_HOURS + np.arange(WEEK_HOURS)
    by_day = 0.8 + 0.4 * uniform(seed, hours // 24, 21)
    by_hour = 0.7 + 0.6 * uniform(seed, hours, 22)
    rhythm = _RHYTHM * by_day * by_hour
    return np.asarray(np.concatenate([[0.0], np.cumsum(rhythm)]) / rhythm.mean())


def mean_hours_since_monday(seed: int, since_monday: int) -> float:
    """Operations in the milliseconds since a Monday, in mean hours."""
    week, rest = divmod(since_monday, WEEK_HOURS * HOUR_MS)
    within = np.interp(rest / HOUR_MS, np.arange(WEEK_HOURS + 1), _cumulative(seed, week))
    return float(week * WEEK_HOURS + within)


def milliseconds_since_monday(seed: int, mean_hours: Floats) -> Ints:
    """The inverse of `mean_hours_since_monday`."""
    weeks = np.floor(mean_hours / WEEK_HOURS).astype(np.int64)
    hours = np.arange(WEEK_HOURS + 1, dtype=float)
    found = np.empty(len(weeks), dtype=np.int64)
    for week in np.unique(weeks):
        in_week = weeks == week
        within = mean_hours[in_week] - week * WEEK_HOURS
        hour = week * WEEK_HOURS + np.interp(within, _cumulative(seed, int(week)), hours)
        found[in_week] = np.floor(hour * HOUR_MS)
    return found
