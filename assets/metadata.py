"""Metadata of assets, generated from the schema."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from pipeline.model.schema import Table


def days_of(keys: list[str]) -> list[date]:
    """The days of partition keys."""
    return [date.fromisoformat(key) for key in keys]


def describe(table: Table) -> dict[str, Any]:
    """A table's columns as definition metadata, with type, meaning and unit."""
    columns = [
        dg.TableColumn(
            column.name,
            column.sql_type,
            description=column.comment,
            constraints=dg.TableColumnConstraints(nullable=column.nullable),
        )
        for column in table.published
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def row_count(rows: int) -> dict[str, Any]:
    """The rows of one partition."""
    return {"dagster/partition_row_count": dg.MetadataValue.int(rows)}


def add_per_day(
    context: dg.AssetExecutionContext,
    metadata: Mapping[date, Mapping[str, Any]],
    asset_key: dg.AssetKey | None = None,
) -> None:
    """Add each day's metadata to its materialization, in a run over a range of days."""
    for day, entries in metadata.items():
        context.add_asset_metadata(
            dict(entries),
            asset_key=asset_key,
            partition_key=day.isoformat(),
        )
