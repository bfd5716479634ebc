"""A Singer tap built with singer-sdk (sorted replication key, header links), and a plain target.

The target appends each record to a file as one line and, as targets do, saves the newest state
once the records before it are written. argv: base URL, token, folder, since, until.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from urllib.parse import parse_qsl

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.pagination import HeaderLinkPaginator

base_url, token, folder, since, until = sys.argv[1:]


class Logs(RESTStream):
    name, path, url_base = "logs", "/api/v1/logs", base_url
    primary_keys, replication_key, is_sorted = ("uuid",), "published", True
    schema = th.PropertiesList(
        th.Property("uuid", th.StringType), th.Property("published", th.DateTimeType)
    ).to_dict()

    @property
    def authenticator(self):
        return APIKeyAuthenticator(key="Authorization", value=f"SSWS {token}", location="header")

    def get_new_paginator(self):
        return HeaderLinkPaginator()

    def get_url_params(self, context, next_page_token):
        if next_page_token:
            return dict(parse_qsl(next_page_token.query))
        begun = self.get_starting_replication_key_value(context) or since
        return {"since": begun, "until": until, "sortOrder": "ASCENDING", "limit": 1000}


class Okta(Tap):
    name = "tap-okta"
    config_jsonschema = th.PropertiesList().to_dict()

    def discover_streams(self):
        return [Logs(tap=self)]


class Target(io.TextIOBase):
    """Reads the tap's messages."""

    def __init__(self):
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.lines = Path(folder, "logs.ndjson").open("a", encoding="utf-8")  # noqa: SIM115 to the end
        self.rest = ""  # the start of a line whose end has not arrived yet

    def write(self, text):
        *whole, self.rest = (self.rest + text).split("\n")
        for message in map(json.loads, filter(None, whole)):
            if message["type"] == "RECORD":
                self.lines.write(json.dumps(message["record"]) + "\n")
            elif message["type"] == "STATE":
                self.lines.flush()
                Path(folder, "state.json").write_text(json.dumps(message["value"]))
        return len(text)


state = Path(folder, "state.json")
tap = Okta(config={}, state=json.loads(state.read_text()) if state.exists() else {})
with contextlib.redirect_stdout(Target()) as target:
    tap.sync_all()
target.lines.flush()
