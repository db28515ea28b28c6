"""Reading the archive: notebooks, queries, exports."""
