"""The published DuckDB file."""

import dagster as dg

from assets.keys import asset_key
from assets.resources import ArchiveResource
from pipeline.lake.layout import LakeError
from pipeline.model.schema import COVERAGE, HISTORY, PUBLISHED, SHOWN_MARTS
from pipeline.outputs.warehouse import publish


@dg.asset(
    key=asset_key("warehouse"),
    deps=[asset_key(table.name) for table in (*SHOWN_MARTS, HISTORY, COVERAGE)],
    group_name="warehouse",
    kinds={"duckdb"},
    description="warehouse.duckdb: views over the lake and delivery tables with rates, for SQL.",
)
def warehouse(archive: ArchiveResource) -> dg.MaterializeResult:
    """Build a new warehouse and replace the old one atomically."""
    lake = archive.lake()
    try:
        built = publish(lake, force=False)
    except LakeError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(lake.warehouse.absolute()),
            "bytes": lake.warehouse.stat().st_size,
            "built": built,
            "tables": dg.MetadataValue.md(
                "\n".join(f"- `{table.name}`: {table.comment}" for table in PUBLISHED)
            ),
        }
    )
