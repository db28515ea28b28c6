"""The archive's files: layout, atomic writes, landing, merging, coverage and migration."""
