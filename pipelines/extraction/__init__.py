"""Extraction: rounds that fetch from the vendors and write to the lake."""
