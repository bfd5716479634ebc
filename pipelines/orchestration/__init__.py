"""The lake in Dagster's terms: assets, checks, jobs, sensors."""
