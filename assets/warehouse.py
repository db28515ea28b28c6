"""The published DuckDB file, and the views in it."""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from assets.failures import as_failures
from assets.keys import asset_key
from assets.metadata import OWNERS, spec
from assets.resources import ArchiveResource
from assets.tables import TABLES
from pipeline.merge_runner import derive_pending, remove_unfinished
from pipeline.model.schema import (
    COUNTING,
    COVERAGE,
    COVERAGE_VIEWS,
    DELIVERY_ANOMALIES,
    DELIVERY_DAILY,
    DELIVERY_HOURLY,
    DELIVERY_READINGS,
    DELIVERY_TABLES,
    OPERATIONS,
    PUBLISHED,
    SLOT_COVERAGE,
    Table,
)
from pipeline.outputs.warehouse import publish

_NAMES: Final = {table.name for table in TABLES}


def _sources(view: Table) -> Sequence[Table]:
    if view in COVERAGE_VIEWS:
        return (SLOT_COVERAGE, COVERAGE)
    if view in DELIVERY_TABLES:
        return (DELIVERY_HOURLY, SLOT_COVERAGE, COUNTING)
    return {
        COUNTING: (OPERATIONS,),
        DELIVERY_ANOMALIES: (DELIVERY_DAILY,),
        DELIVERY_READINGS: (DELIVERY_DAILY,),
    }[view]


VIEWS: Final = [
    spec(view, _sources(view), group="warehouse", kinds={"duckdb", "view"})
    for view in PUBLISHED
    if view.name not in _NAMES
]
"""Tables and views of the warehouse alone. They are made with it, and not materialized by themselves."""


@dg.asset(
    key=asset_key("warehouse"),
    deps=[*(asset_key(name) for name in sorted(_NAMES)), *(view.key for view in VIEWS)],
    group_name="warehouse",
    kinds={"duckdb"},
    owners=OWNERS,
    tags={"email_archive/layer": "warehouse"},
    # After partitions changed, once. eager() would wait for all partitions of the sources.
    automation_condition=dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    )
    & ~dg.AutomationCondition.in_progress(),
    description="warehouse.duckdb: views over the lake and delivery tables with rates, for SQL.",
)
def warehouse(archive: ArchiveResource) -> dg.MaterializeResult:
    """Build a new warehouse and replace the old one atomically."""
    with as_failures():
        lake = archive.lake()
        remove_unfinished(lake)
        # Of days whose tables an older version made, or that a killed run left.
        errors = derive_pending(lake)
        built = publish(lake, force=False)
    if errors:
        raise dg.Failure("\n".join(map(str, errors)))
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(lake.warehouse.absolute()),
            "bytes": lake.warehouse.stat().st_size,
            "built": built,
        }
    )


outputs_sensor = dg.AutomationConditionSensorDefinition(
    "outputs_sensor",
    target=dg.AssetSelection.assets(warehouse),
    minimum_interval_seconds=60,
    description="Publishes the warehouse after partitions changed.",
)
