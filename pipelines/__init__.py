"""auditlake's pipelines: from the vendors' APIs to Delta tables."""

import os

# Polars makes its allocator return free pages after half a second, and by this variable also that
# of deltalake. A sixth of an extraction was to get the pages back for the next batch. Two seconds
# save as much as the allocator's own ten, and do not keep the pages of one evaluation of rules for
# the next; the value of an operator stays.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:2000,muzzy_decay_ms:2000")
