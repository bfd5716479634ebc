"""auditlake's own round. argv: base URL, token, folder."""

import sys

from pipelines import registry
from pipelines.extraction import rounds
from pipelines.lake.tables import Lake

base_url, token, folder, *_ = sys.argv[1:]
source = registry.source("okta", {"base_url": base_url, "api_token": token})
(report,) = rounds.poll(Lake(f"{folder}/lake"), [source])
sys.exit(report.error)
