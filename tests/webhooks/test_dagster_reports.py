"""Stored deliveries are reported to Dagster in sums, and never wait for it."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from pipelines.extraction.report import Report
from pipelines.sdk.push import Subscription
from pipelines.settings import DagsterSettings
from pipelines.webhooks.dagster_reports import DagsterReporter, reporter

heads, statuses = [], {None: 200, "Bearer right-token": 200}


@pytest.fixture
def dagster():
    """A web server that remembers what is reported to it."""
    told = []
    heads.clear()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["Content-Length"])
            told.append((self.path, json.loads(self.rfile.read(size))))
            heads.append(self.headers)
            self.send_response(statuses.get(self.headers["Authorization"], 401))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield DagsterSettings(port=server.server_port), told
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
    assert {path for path, _ in told} == {"/report_asset_observation/"}


def landed(rows):
    return Report(integration="okta", stream="system_log", rows=rows, events=rows, total=rows)


def test_a_slow_dagster_delays_neither_reports_nor_their_sums():
    arrived, released, received = threading.Event(), threading.Event(), []

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            arrived.set()
            assert released.wait(60)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        reports = DagsterReporter(address=f"http://127.0.0.1:{server.server_port}")
        reports.report(landed(2))
        sending = threading.Thread(target=reports.flush)
        sending.start()
        assert arrived.wait(60)
        for rows in (3, 4):  # while the first report is on its way
            reports.report(landed(rows))
        released.set()
        sending.join(60)
        reports.flush()
        server.shutdown()
    assert [body["metadata"]["rows added"] for body in received] == [2, 7]


def test_reports_that_dagster_did_not_get_are_dropped_and_later_ones_arrive(dagster):
    listen, told = dagster
    reports = DagsterReporter(address="http://127.0.0.1:1")
    reports.report(landed(2))
    reports.flush()
    reports.address = f"http://127.0.0.1:{listen.port}"
    reports.flush()
    assert told == []
    reports.report(landed(3))
    reports.flush()
    assert [body["metadata"]["rows added"] for _, body in told] == [3]


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_dagster_that_listens_everywhere_is_reached_on_loopback(dagster, host):
    listen, told = dagster
    with reporter(listen.model_copy(update={"host": host})) as reports:
        reports.report(landed(1))
    assert len(told) == 1


def test_without_a_dagster_nothing_is_told_and_nothing_fails():
    with reporter(DagsterSettings(port=1)) as announced:
        announced.report(Report(integration="okta", stream="system_log", rows=1, total=1))


def test_reports_go_to_the_configured_address_with_the_token(dagster, monkeypatch, caplog):
    listen, told = dagster
    url = f"http://localhost:{listen.port}/prod"
    monkeypatch.setenv("RIGHT", "right-token")
    for token in ({"env": "RIGHT"}, "wrong-token"):
        chosen = DagsterSettings(url=f"{url}/", token=token)
        with reporter(chosen) as reports:
            for _ in range(2):
                reports.report(landed(1))
                reports.flush()
        assert "-token" not in repr(reports) + repr(chosen)
    assert [path for path, _ in told] == ["/prod/report_asset_observation/"] * 4
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{url} answered 401 to a report: check dagster.url, dagster.token")


def test_dagster_plus_gets_the_token_in_its_own_header():
    url = "https://acme.dagster.plus/prod"
    with reporter(DagsterSettings(url=url, token="secret")) as reports:
        assert reports.headers == {"Dagster-Cloud-Api-Token": "secret"}


@pytest.mark.parametrize("token", ["secret", "two\nlines"])
def test_a_token_is_sent_by_https_only_and_in_one_header(token):
    assert DagsterSettings(url="http://dagster:3000").url == "http://dagster:3000"
    url = "http://dagster:3000" if token == "secret" else "https://dagster"
    with pytest.raises(ValidationError) as error:
        DagsterSettings(url=url, token=token)
    assert token not in str(error.value)
