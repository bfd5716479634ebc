"""How much of a long promise is tested: a sample, or everything (`make test-full`)."""

import os

FULL = "AUDITLAKE_FULL" in os.environ
