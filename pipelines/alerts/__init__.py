"""Tell people what rules found, and what is wrong with auditlake itself."""
