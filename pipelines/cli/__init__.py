"""The command `auditlake`."""
