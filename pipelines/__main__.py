"""`python -m pipelines` is `auditlake`."""

from pipelines.cli.main import main

main()
