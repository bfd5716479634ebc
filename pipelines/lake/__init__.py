"""The Delta tables of the lake; all reads and writes of them go through this package."""
