"""Simulated vendor APIs over one fictional company; a module in services/ adds a vendor."""
