"""The speed benchmark: what the archive costs, as ratios against a floor measured in the same run."""
