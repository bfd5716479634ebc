"""Findings, settings and receivers on real sockets, to try alerts with."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl

from pipelines.detections.alerts import outbox
from pipelines.lake import commits, deliveries, tables
from pipelines.lake.commits import Decision
from pipelines.lake.findings import FINDINGS
from pipelines.settings import Settings, validated

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECRET = "whsec_" + "c2lnbmluZyBrZXkgb2YgYSB0ZXN0IHdlYmhvb2s="


def uid(text):
    return hashlib.sha256(text.encode()).hexdigest()


def finding(name="one", **values):
    """Return a row of `findings` without `seq`."""
    time = values.get("time", NOW - MINUTE)
    row = {
        "finding_uid": uid(name),
        "revision": 0,
        "status": "found",
        "provisional": False,
        "time": time,
        "since": time,
        "found_at": NOW,
        "class_uid": 2004,
        "rule_id": "11111111-2222-4333-8444-555555555555",
        "logic_sha256": "0" * 64,
        "ruleset": "0" * 64,
        "title": "Administrator role granted",
        "level": "high",
        "author": "A. Writer",
        "url": "https://example.com/rule",
        "license": "DRL-1.1",
        "tags": ["attack.t1098"],
        "integration": "okta",
        "kind": "okta",
        "stream": "system_log",
        "entity": "ada@example.com",
        "source_ip": "192.0.2.7",
        "message": "Ada granted Bob a role",
        "count": 1,
        "event_uids": ["okta:system_log:1"],
        "matched": [{"field": "eventType", "value": "user.account.privilege.grant"}],
        "exception": None,
        **values,
    }
    return {**row, "date": row["time"].date()}


def land(lake, *rows):
    """Append findings with the next numbers, as the engine does."""

    def decide(_, count):
        numbered = [{**row, "seq": count + n} for n, row in enumerate(rows)]
        return Decision(pl.DataFrame(numbered, FINDINGS.schema), count + len(rows))

    commits.write(lake, FINDINGS, FINDINGS.name, decide, {})


def settings(receivers=None, **alerts) -> Settings:
    chosen = {"receivers": receivers or {"hook": hook("http://127.0.0.1:9/")}, **alerts}
    return validated(Settings, {"alerts": chosen}, "auditlake.toml")


def hook(url, **more):
    return {"kind": "webhook", "url": url, "secret": SECRET, **more}


def rows(lake):
    """Return all rows of the outbox, payloads included."""
    return tables.existing(lake, "deliveries").collect().sort("seq").to_dicts()


def states(lake):
    """Return receiver, about, revision and state of each message."""
    known = outbox.fold(deliveries.recorded(lake, NOW - 365 * DAY))
    return sorted(
        (each.receiver, each.about, each.revision, each.state)
        for one in known.deliveries.values()
        for each in one.revisions.values()
    )


@dataclass
class Got:
    method: str
    path: str
    headers: dict
    body: bytes


@dataclass
class Server:
    """A server that records requests, and answers as `reply` says."""

    reply: object = None
    got: list = field(default_factory=list)
    url: str = ""

    @property
    def ids(self):
        return [each.headers.get("webhook-id") for each in self.got]


def accepted(_):
    return 200, {}, b"{}"


@contextmanager
def receiving(reply=accepted):
    """Yield a server; `reply` returns status, headers and body, or None to hang up."""
    made = Server(reply=reply)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            got = Got(self.command, self.path, headers, body)
            made.got.append(got)
            answer = made.reply(got)
            if answer is None:
                self.close_connection = True
                return
            status, more, content = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **more}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815 the names are those of http.server

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
