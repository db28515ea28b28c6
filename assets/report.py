"""The report: an HTML page."""

import dagster as dg

from assets.failures import as_failures
from assets.keys import asset_key
from assets.metadata import OWNERS
from assets.resources import ArchiveResource
from pipeline.extras import optional_imports


@dg.asset(
    key=asset_key("report"),
    deps=[asset_key("warehouse")],
    group_name="warehouse",
    kinds={"html", "altair"},
    owners=OWNERS,
    tags={"email_archive/layer": "warehouse"},
    description="report.html: volume, rates, delivery curves, anomalies and coverage on one page.",
)
def report(archive: ArchiveResource) -> dg.MaterializeResult:
    """Write the page. The event links to it and has the figures of the last 28 days, which Dagster plots.

    With several accounts they are those of all together. Dagster keeps every event, so it has no pictures.
    """
    with as_failures():
        with optional_imports():
            from pipeline.report.write import report as write
        written = write(archive.lake())
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.url(written.path.absolute().as_uri()),
            "path": dg.MetadataValue.path(written.path),
            "bytes": written.size,
            "written": written.is_new,
            "accounts": [account.name for account, _ in written.accounts if account.account_id],
            **written.key_figures,
        }
    )
