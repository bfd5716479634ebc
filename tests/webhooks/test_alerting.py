"""Alerts follow findings in pushed records at once."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines import registry
from pipelines.lake import tables
from pipelines.webhooks import server
from pipelines.webhooks.alerting import Alerting
from tests.detections.alerts.world import SECRET
from tests.detections.ruled import written
from tests.detections.watched import rule
from tests.waiting import until
from tests.webhooks.pushing import hook, put
from tests.webhooks.receiving import configured


@pytest.fixture
def receiver():
    """The address of a webhook, and what it has received."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever).start()
        yield f"http://127.0.0.1:{listening.server_port}/", received
        listening.shutdown()


def test_a_pass_follows_each_time_there_are_findings():
    done = threading.Event()
    alerting = Alerting(send=done.set)
    with alerting.running():
        assert not done.is_set()
        alerting.wake()
        assert done.wait(60)


def test_the_receiver_sends_alerts_about_what_is_pushed(tmp_path, monkeypatch, receiver):
    address, received = receiver
    started = written(tmp_path, rule(1, {"eventType": "user.session.start"}))
    webhook = {"kind": "webhook", "url": address, "secret": SECRET}
    alerts = {"receivers": {"ours": webhook}, "alert_within": "36500d"}
    chosen = configured(tmp_path, 0, started, alerts=alerts)
    lake = tables.configured(chosen)
    spool = server.configured_spool(chosen, lake)
    with spool.open():
        put(spool, hook(1))
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda _: until(lambda: received, "an alert"))
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    server.serve(chosen, lake, registry.sources(chosen), lambda _: None)
    assert "Rule 1" in json.dumps(received[0])
