"""Dagster definitions: thin glue around ``pipeline``."""
