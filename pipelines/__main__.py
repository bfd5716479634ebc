"""`python -m pipelines` is `auditlake`."""

from pipelines.cli import main

main()
