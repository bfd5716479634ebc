"""auditlake's pipelines: from the vendors' APIs to Delta tables."""
