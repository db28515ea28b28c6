"""An archive of Twilio email operations that outlives the API.

Plain Python: everything here works from a script, a notebook or cron. Nothing imports Dagster; its project
is in ``assets``.

``Archive`` reads an archive, as in a notebook. ``OperationsClient`` and ``Settings`` are the API client. They
are imported on first access, so that the command starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pipeline.access.archive import Archive
    from pipeline.model.windows import Window
    from pipeline.settings import Settings
    from pipeline.twilio.client import OperationsClient

__all__ = ["Archive", "OperationsClient", "Settings", "Window"]

_HOMES: Final = {
    "Archive": "pipeline.access.archive",
    "OperationsClient": "pipeline.twilio.client",
    "Settings": "pipeline.settings",
    "Window": "pipeline.model.windows",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
