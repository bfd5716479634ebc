"""A declarative source of airbyte-cdk (datetime cursor, header links), and a plain destination.

The destination appends each record to a file as one line and, as destinations do, saves a state
once the records before it are written. argv: base URL, token, folder, since, until.
"""

import json
import logging
import sys
from pathlib import Path

from airbyte_cdk.models import (
    AirbyteStateMessageSerializer,
    ConfiguredAirbyteCatalogSerializer,
    Type,
)
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)

base_url, token, folder, since, until = sys.argv[1:]
_TIME = "%Y-%m-%dT%H:%M:%S.%_msZ"
STREAM = {
    "type": "DeclarativeStream",
    "name": "logs",
    "primary_key": ["uuid"],
    "schema_loader": {
        "type": "InlineSchemaLoader",
        "schema": {"type": "object", "additionalProperties": True, "properties": {}},
    },
    "incremental_sync": {
        "type": "DatetimeBasedCursor",
        "cursor_field": "published",
        "datetime_format": _TIME,
        "cursor_datetime_formats": [_TIME],
        "start_datetime": since,
        "end_datetime": until,
        "start_time_option": {
            "type": "RequestOption",
            "inject_into": "request_parameter",
            "field_name": "since",
        },
        "end_time_option": {
            "type": "RequestOption",
            "inject_into": "request_parameter",
            "field_name": "until",
        },
    },
    "retriever": {
        "type": "SimpleRetriever",
        "record_selector": {
            "type": "RecordSelector",
            "extractor": {"type": "DpathExtractor", "field_path": []},
        },
        "requester": {
            "type": "HttpRequester",
            "url_base": base_url,
            "path": "/api/v1/logs",
            "request_parameters": {"limit": "1000", "sortOrder": "ASCENDING"},
            "request_headers": {"Authorization": f"SSWS {token}"},
        },
        "paginator": {
            "type": "DefaultPaginator",
            "page_token_option": {"type": "RequestPath"},
            "pagination_strategy": {
                "type": "CursorPagination",
                "cursor_value": "{{ headers['link']['next']['url'] }}",
                "stop_condition": "{{ 'next' not in headers['link'] }}",
            },
        },
    },
}
MANIFEST = {
    "version": "6.0.0",
    "type": "DeclarativeSource",
    "check": {"type": "CheckStream", "stream_names": ["logs"]},
    "streams": [STREAM],
}
CATALOG = {
    "streams": [
        {
            "stream": {
                "name": "logs",
                "json_schema": {},
                "supported_sync_modes": ["full_refresh", "incremental"],
            },
            "sync_mode": "incremental",
            "destination_sync_mode": "append",
        }
    ]
}

Path(folder).mkdir(parents=True, exist_ok=True)
saved = Path(folder, "state.json")
state = [json.loads(saved.read_text())] if saved.exists() else []
state = [AirbyteStateMessageSerializer.load(each) for each in state]
catalog = ConfiguredAirbyteCatalogSerializer.load(CATALOG)
source = ConcurrentDeclarativeSource(
    catalog=catalog, config={}, state=state, source_config=MANIFEST
)
with Path(folder, "logs.ndjson").open("a", encoding="utf-8") as lines:
    for message in source.read(logging.getLogger("airbyte"), {}, catalog, state):
        if message.type == Type.RECORD:
            lines.write(json.dumps(message.record.data) + "\n")
        elif message.type == Type.STATE:
            lines.flush()
            saved.write_text(json.dumps(AirbyteStateMessageSerializer.dump(message.state)))
