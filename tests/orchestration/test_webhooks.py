"""What the receiver reports to Dagster, and what Dagster makes of pushes."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from pipelines.extraction.report import Report
from pipelines.orchestration import assets, sensors
from pipelines.sdk.push import Subscription
from pipelines.settings import Listen
from pipelines.webhooks.dagster_reports import reporter
from tests.webhooks.conftest import source
from tests.webhooks.test_receiver import hook, polled, put, run_worker, spool

__all__ = ["spool"]
KEY = dg.AssetKey(["raw", "okta", "system_log"])


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


def test_a_report_of_the_receiver_does_not_hide_how_the_last_run_went():
    with dg.DagsterInstance.ephemeral() as instance:
        fails = [False]

        @dg.multi_asset(name="one", specs=[dg.AssetSpec(KEY)])
        def one():
            if fails[0]:
                raise dg.Failure("the vendor is down", allow_retries=False)
            yield dg.MaterializeResult(asset_key=KEY)

        assert sensors._last_run(instance, KEY) == "none"
        for failed, last_run in ((False, "succeeded"), (True, "failed"), (False, "succeeded")):
            fails[0] = failed
            dg.materialize([one], instance=instance, raise_on_error=False)
            assert sensors._last_run(instance, KEY) == last_run
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY))
            assert sensors._last_run(instance, KEY) == last_run


def test_the_check_warns_of_pushes_that_polling_never_showed(lake, spool, monkeypatch):
    put(spool, hook(1, 2))
    run_worker(lake, spool)
    polled(lake, 2, 3)
    asset = assets.reconciled(lake, [source("okta")])
    for ahead, passed in ((timedelta(0), True), (timedelta(hours=3), False)):
        now = datetime.now(UTC) + ahead
        monkeypatch.setattr(assets, "utc_now", lambda now=now: now)
        with dg.DagsterInstance.ephemeral() as instance:
            done = dg.materialize([asset], instance=instance)
        (verdict,) = done.get_asset_check_evaluations()
        assert (verdict.passed, verdict.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert "okta system_log (1)" in verdict.description
