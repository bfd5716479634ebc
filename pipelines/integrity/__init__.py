"""Signed Merkle trees over the raw tables, and the means to check them; see docs/integrity.md."""
