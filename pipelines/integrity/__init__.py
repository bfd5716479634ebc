"""Signs Merkle trees over the raw tables, and verifies them; see docs/integrity.md."""
