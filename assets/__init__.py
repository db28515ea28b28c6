"""Dagster and nothing else: thin glue around ``pipeline``."""
