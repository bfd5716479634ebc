"""auditlake's extraction side: from the vendors' APIs to Delta tables."""
