"""Promises that cross modules."""
