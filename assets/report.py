"""The report, for people: a page, and its charts in Dagster."""

import base64

import dagster as dg

from assets.resources import ArchiveResource
from pipeline.errors import ArchiveError
from pipeline.report.pictures import pictures
from pipeline.report.write import report as write

MOST_BYTES = 200_000
"""Of all pictures in one event, as text: it is stored for every run."""


@dg.asset(
    deps=["warehouse"],
    group_name="warehouse",
    kinds={"html", "altair"},
    description="report.html: volume, rates, delivery curves, anomalies and coverage on one page.",
)
def report(archive: ArchiveResource) -> dg.MaterializeResult:
    """Write the page; the event has the charts of the account with the most operations."""
    try:
        written = write(archive.lake())
    except ArchiveError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    shown = {} if not written.accounts else pictures(written.accounts[0])
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(written.path),
            "bytes": written.size,
            "accounts": [account.account_id for account in written.accounts],
            **_embedded(shown),
        }
    )


def _embedded(shown: dict[str, bytes]) -> dict[str, dg.MarkdownMetadataValue]:
    """The pictures as Markdown, as many as the event has room for."""
    found, size = {}, 0
    for key, png in shown.items():
        text = f"![{key}](data:image/png;base64,{base64.b64encode(png).decode()})"
        size += len(text)
        if size <= MOST_BYTES:
            found[key] = dg.MetadataValue.md(text)
    return found
