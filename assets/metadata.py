"""Specs of assets, generated from the schema: static metadata is here, so that events carry only counts."""

from collections.abc import Iterable
from typing import Any, Final

import dagster as dg

from assets.keys import asset_key
from pipeline.model.schema import Table

OWNERS: Final = ("team:email-archive",)


def spec(
    table: Table,
    sources: Iterable[Table] = (),
    *,
    deps: Iterable[dg.AssetKey] = (),
    group: str,
    kinds: Iterable[str],
    skippable: bool = False,
) -> dg.AssetSpec:
    """The asset of a table.

    Args:
        table: the table.
        sources: the tables that it is derived from.
        deps: further assets that it is derived from.
        group: its group.
        kinds: technologies, which Dagster shows as icons.
        skippable: whether a run may skip it.
    """
    sources = tuple(sources)
    return dg.AssetSpec(
        asset_key(table.name),
        deps=[*deps, *(asset_key(source.name) for source in sources)],
        description=table.comment,
        group_name=group,
        kinds=set(kinds),
        owners=OWNERS,
        tags={"email_archive/layer": group},
        metadata=_columns(table) | _lineage(table, sources),
        skippable=skippable,
    )


def _columns(table: Table) -> dict[str, Any]:
    """A table's columns, with type, meaning and unit."""
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


def _lineage(table: Table, sources: Iterable[Table]) -> dict[str, Any]:
    """Column lineage: a column is derived from the columns of the same name in the sources."""
    names = {source: {column.name for column in source.published} for source in sources}
    deps = {
        column.name: [
            dg.TableColumnDep(asset_key(source.name), column.name)
            for source, known in names.items()
            if column.name in known
        ]
        for column in table.published
    }
    found = {name: made_of for name, made_of in deps.items() if made_of}
    return {"dagster/column_lineage": dg.TableColumnLineage(found)} if found else {}
