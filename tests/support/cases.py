"""Which cases of a test run every time."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(cases: Iterable[Any], count: int) -> list[Any]:
    """The first so many in every run; the others, which show the same, only in ``make test-all``."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        if number >= count
        else case
        for number, case in enumerate(cases)
    ]
