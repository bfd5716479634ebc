"""Stored deliveries are reported to Dagster in sums, and never wait for it."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipelines.extraction.report import Report
from pipelines.sdk.push import Subscription
from pipelines.settings import Listen
from pipelines.webhooks.dagster_reports import reporter


@pytest.fixture
def dagster():
    """A web server that remembers what is reported to it."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            told.append((self.path, json.loads(self.rfile.read(size))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Listen(port=server.server_port), told
        server.shutdown()


def test_what_has_landed_and_what_was_renewed_is_reported_in_sums(dagster):
    listen, told = dagster
    with reporter(listen) as announced:
        for rows in (2, 3, 0):
            announced.report(Report(integration="okta", stream="system_log", rows=rows, events=rows,
                                    total=10, version=4))  # fmt: skip
        ends = datetime(2026, 1, 1, tzinfo=UTC)
        announced.report_subscriptions(
            "okta", [Subscription(stream="system_log", id="1", expires=ends)]
        )
    figures = {tuple(body["asset_key"]): body["metadata"] for _, body in told}
    assert figures["raw", "okta", "system_log"] == {
        "via": "webhook", "rows added": 5, "events added": 5, "dagster/row_count": 10,
        "table version": 4,
    }  # fmt: skip
    assert figures["push", "okta"]["next expiry"] == "2026-01-01T00:00:00+00:00"
    assert {path for path, _ in told} == {"/report_asset_materialization/"}


def test_without_a_dagster_nothing_is_told_and_nothing_fails():
    with reporter(Listen(port=1)) as announced:
        announced.report(Report(integration="okta", stream="system_log", rows=1, total=1))
