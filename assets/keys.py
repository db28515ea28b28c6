"""Asset keys: the names of tables and files, with a prefix."""

from typing import Final

import dagster as dg

PREFIX: Final = "email_archive"


def asset_key(name: str) -> dg.AssetKey:
    """The key of the asset of a table or file."""
    return dg.AssetKey([PREFIX, name])
