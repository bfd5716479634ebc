"""Verifies signed logs, and shares no code with the modules that sign them."""
