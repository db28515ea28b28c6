"""Time, records and the schema: what every other package knows."""
