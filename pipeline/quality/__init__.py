"""Whether the archive is complete and right: checks, status, verify, repair."""
