"""Errors of the archive as failures of Dagster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import dagster as dg

from pipeline.errors import ArchiveError

STOPPED: Final = (
    "stopped: landed scans are in the archive, scans under way were dropped and stay due"
)
"""The message of a run that a signal ended."""


@contextmanager
def as_failures() -> Iterator[None]:
    """Fail with the message of an error, and without a traceback into the library."""
    try:
        yield
    except ArchiveError as error:
        raise dg.Failure(str(error)) from None
    except dg.DagsterExecutionInterruptedError:
        raise dg.Failure(STOPPED) from None
