"""Parquet files and nothing else: where they lie, how they are replaced, what they hold."""
