"""The API on this machine: a world of operations, computed, and a server that serves it."""
