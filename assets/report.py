"""The report: an HTML page, and its charts in Dagster."""

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from assets.keys import asset_key
from assets.resources import ArchiveResource
from pipeline.errors import ArchiveError
from pipeline.extras import optional_imports

if TYPE_CHECKING:
    from pipeline.report.figures import Figure

MOST_BYTES = 200_000
"""The most bytes of charts in one event, which is stored for every run. Ten charts take about 90 kB."""

_WIDTH = 400


@dg.asset(
    key=asset_key("report"),
    deps=[asset_key("warehouse")],
    group_name="warehouse",
    kinds={"html", "altair"},
    description="report.html: volume, rates, delivery curves, anomalies and coverage on one page.",
)
def report(archive: ArchiveResource) -> dg.MaterializeResult:
    """Write the page. The event has the charts of the account with the most operations."""
    try:
        with optional_imports():
            from pipeline.report.write import report as write
        written = write(archive.lake())
    except ArchiveError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(written.path),
            "bytes": written.size,
            "written": written.is_new,
            "accounts": [account.account_id for account, _ in written.accounts],
            **_embedded(figure for _, drawn in written.accounts[:1] for figure in drawn),
        }
    )


def _embedded(drawn: Iterable["Figure"]) -> dict[str, dg.MarkdownMetadataValue]:
    """The charts as Markdown with pictures and text, up to `MOST_BYTES`."""
    from pipeline.report.png import png

    found, size = {}, 0
    for figure in drawn:
        picture = base64.b64encode(png(figure, width=_WIDTH, is_explained=False)).decode()
        image = f"![{figure.title}](data:image/png;base64,{picture})"
        text = "\n\n".join(filter(None, (figure.text, figure.note, image)))
        size += len(text)
        if size <= MOST_BYTES:
            found[figure.key] = dg.MetadataValue.md(text)
    return found
