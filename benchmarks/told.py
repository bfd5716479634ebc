"""A rule that about every eighth event matches, and a receiver that notes when alerts arrive."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl

from pipelines.detections.alerts.receivers import webhook
from pipelines.lake import tables
from pipelines.lake.tables import Lake

RULE_ID = "5b0f4c1e-8a53-4c0e-9c1f-5d3f0e6a7b21"
_TAG = "auditlake.benchmark"
_RULE = f"""\
title: Some events
id: {RULE_ID}
status: experimental
level: high
tags: [{_TAG}]
logsource:
  product: auditlake
detection:
  some:
    event_id|endswith: ['0', '1']
  condition: some
"""


class Receiver:
    """Takes signed alerts on loopback, each finding alone, and knows when each arrived."""

    def __init__(self) -> None:
        self._secret = base64.b64encode(secrets.token_bytes(32)).decode()
        self._arrived: dict[tuple[str, int], datetime] = {}

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yield the address while it answers."""
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204 if here._takes(self.headers, content) else 401)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()

    def _takes(self, headers: object, content: bytes) -> bool:
        get = headers.get  # type: ignore[attr-defined]  # a message of the standard library
        stamp, id_ = get("webhook-timestamp"), get("webhook-id")
        wanted = webhook.signature(self._secret, id_, stamp, content)
        if not hmac.compare_digest(wanted, get("webhook-signature")):
            return False
        found = json.loads(content)["data"]
        self._arrived.setdefault((found["dedup_key"], found["revision"]), datetime.now(UTC))
        return True

    def settings(self, folder: Path, address: str) -> str:
        """Write the rule, and return the sections of auditlake.toml that name it and us."""
        file = folder / "some.yml"
        file.write_text(_RULE)
        return f"""
[detections]
rules = ["rules", {json.dumps(str(file))}]

[alerts]
group_within = "1s"
update_every = "1s"

[alerts.receivers.here]
kind = "webhook"
url = "{address}"
secret = "{self._secret}"
per_hour = 1000000

[[alerts.routes]]
receivers = ["here"]
tags = ["{_TAG}"]
"""

    def told(self, lake: Lake) -> dict[str, datetime]:
        """Return when a message about each finding first arrived, by `finding_uid`."""
        rows = tables.scan(lake, "deliveries")
        found: dict[str, datetime] = {}
        if rows is None:
            return found
        revisions = rows.filter(pl.col("about") == "findings")
        named = revisions.select("delivery", "revision", "subjects").collect().iter_rows()
        for delivery, revision, subjects in named:
            if at := self._arrived.get((delivery, revision)):
                for uid in subjects or ():
                    found[uid] = min(at, found.get(uid, at))
        return found
