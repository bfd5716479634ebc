"""The lake as Dagster assets, checks, jobs and sensors."""
