"""Alert people to findings of rules, and to faults of auditlake itself."""
