"""Outputs that are derived from the lake: the DuckDB warehouse."""
