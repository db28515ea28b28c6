"""What is due, and how it is fetched: the planner, scans, lookups, the API's clock."""
