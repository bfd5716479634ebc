"""dlt loads Okta into Delta with its REST client, an incremental cursor, and append or merge.

argv: base URL, token, folder, since, until, "append" or "insert-only".
"""

import sys

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import HeaderLinkPaginator

base_url, token, folder, since, until, how = sys.argv[1:]
merging = how == "insert-only"


# The lag fetches the last two hours again, for late events; it is documented for merge only.
CURSOR = dlt.sources.incremental("published", initial_value=since, lag=7200 if merging else 0)


@dlt.resource(
    name="logs",
    primary_key="uuid",
    table_format="delta",
    max_table_nesting=0,
    write_disposition={"disposition": "merge", "strategy": how} if merging else "append",
)
def logs(published=CURSOR):
    headers = {"Authorization": f"SSWS {token}"}
    client = RESTClient(base_url, headers=headers, paginator=HeaderLinkPaginator())
    span = {"since": published.last_value, "until": until, "sortOrder": "ASCENDING"}
    yield from client.paginate("/api/v1/logs", params={**span, "limit": 1000})


pipeline = dlt.pipeline(
    "okta",
    destination=dlt.destinations.filesystem(f"file://{folder}/lake"),
    dataset_name="audit",
    pipelines_dir=f"{folder}/pipelines",
)
pipeline.run(logs())
