"""Traces reach a collector, hold no secret and no record, and cost nothing while they are off."""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.cli import config_file
from pipelines.detections.alerts import deliver
from pipelines.errors import ConfigurationError, Refused
from pipelines.settings import Settings, telemetry, validated
from pipelines.settings.telemetry import TelemetrySettings
from sandbox.server import Options, running
from tests.cli.command import run
from tests.detections.alerts.test_deliver import queued
from tests.detections.alerts.world import NOW, finding, hook, receiving, settings

TOKEN = "t0ken-of-the-collector"


class Collector:
    """A receiver of OTLP over HTTP on loopback."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.headers, self.bodies = [], []

    @property
    def text(self):
        return b"".join(self.bodies).decode(errors="replace")

    @property
    def spans(self):
        """The spans received, with their attributes as a dict."""
        trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
        found = []
        for body in self.bodies:
            request = trace.ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                about = attributes(resource.resource)
                assert about["service.name"] == "auditlake"
                assert about["service.version"]
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    def named(self, name):
        return [attributes(span) for span in self.spans if span.name == name]


def attributes(holder):
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes
    }


@contextmanager
def collecting():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces"
            collector.headers.append(self.headers)
            collector.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """No variable of OpenTelemetry, no compression, and no traces after the test."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "HEADERS"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield
    telemetry.stop()


@pytest.fixture
def installed():
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")


@pytest.fixture
def collector(installed):
    with collecting() as found:
        yield found


def deployment(folder, server, collector):
    okta = {"okta": server.settings()["okta"]}
    text = config_file.document(okta, f"{folder}/data", integrity=f"{folder}/state")
    section = f'[telemetry]\nendpoint = "{collector.url}"\nheaders = {{ "X-Token" = "{TOKEN}" }}\n'
    (folder / "auditlake.toml").write_text(text + section)
    return okta["okta"]


def test_a_poll_is_traced_without_secrets_and_records(collector, tmp_path):
    with running(Options(days=1, per_day=60, rate=0)) as server:
        okta = deployment(tmp_path, server, collector)
        assert run(tmp_path, "poll").exit_code == 0
        telemetry.stop()
        records = [
            json.loads(each.raw) for each in server.sandbox.log("okta", "system_log").visible()
        ]
    assert {each["X-Token"] for each in collector.headers} == {TOKEN}
    spans = collector.spans
    assert {"round", "GET", "commit", "sign", "detect"} <= {span.name for span in spans}
    (round_,) = (span for span in spans if span.name == "round")
    assert attributes(round_) == {
        "auditlake.integration": "okta",
        "auditlake.stream": "system_log",
        "auditlake.rows": len(records),
        "auditlake.events": len(records),
        "auditlake.requests": len(collector.named("GET")),
    }
    within = {span.name for span in spans if span.trace_id == round_.trace_id}
    assert {"round", "GET", "commit", "sign"} <= within
    for request in collector.named("GET"):
        assert request["url.full"] == f"{okta['base_url']}/api/v1/logs"
        assert request["http.request.method"] == "GET"
        assert request["http.response.status_code"] == 200
        assert request["server.address"] == "127.0.0.1"
    tables = {each["db.collection.name"]: each for each in collector.named("commit")}
    assert tables["raw/okta/system_log"]["auditlake.rows"] == len(records)
    assert tables["raw/okta/system_log"]["db.operation.name"] == "append"
    signed = {"auditlake.log": "okta/system_log", "auditlake.rows": len(records)}
    assert signed in collector.named("sign")
    hidden = {okta["api_token"], okta["webhook_secret"], TOKEN, "since=", "sortOrder"}
    for record in records:
        hidden |= {record["uuid"], record["actor"]["id"], record["actor"]["alternateId"]}
    assert [text for text in hidden if text in collector.text] == []


def test_a_refused_request_fails_its_span_and_its_round(collector, tmp_path):
    with running(Options(days=1, per_day=10, rate=0)) as server:
        deployment(tmp_path, server, collector)
        text = (tmp_path / "auditlake.toml").read_text()
        wrong = text.replace(server.settings()["okta"]["api_token"], "wr0ng-token")
        (tmp_path / "auditlake.toml").write_text(wrong)
        assert run(tmp_path, "poll").exit_code == 1
    telemetry.stop()
    (request,) = collector.named("GET")
    assert (request["http.response.status_code"], request["error.type"]) == (401, "401")
    assert [each["error.type"] for each in collector.named("round")] == ["Refused"]
    assert {span.status.code for span in collector.spans if span.name in ("GET", "round")} == {2}
    assert "wr0ng-token" not in collector.text


def test_the_text_of_an_error_is_not_traced(collector):
    telemetry.start(collector.url)
    with pytest.raises(Refused), telemetry.span("outer"), telemetry.span("inner", {"a": 1}):
        raise Refused("answered: a record of Ada")
    telemetry.stop()
    inner, outer = collector.spans
    assert (inner.name, inner.parent_span_id) == ("inner", outer.span_id)
    assert [attributes(each)["error.type"] for each in (inner, outer)] == ["Refused"] * 2
    assert "Ada" not in collector.text


def test_a_delivered_alert_is_traced_without_its_text(collector, lake):
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)})
        queued(lake, chosen, finding())
        telemetry.start(collector.url)
        deliver.deliver(lake, chosen, NOW)
    telemetry.stop()
    (alert,) = collector.named("deliver alert")
    assert alert == {
        "auditlake.receiver": "hook",
        "auditlake.receiver.kind": "webhook",
        "auditlake.attempt": 1,
    }
    for text in (server.url, "Administrator role granted", "Ada"):
        assert text not in collector.text


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{}/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{}", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_variables_of_opentelemetry_turn_traces_on(variables, sent, collector, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(collector.url))
    TelemetrySettings().start()
    with telemetry.span("step"):
        pass
    telemetry.stop()
    assert [span.name for span in collector.spans] == ["step"] * sent


def test_a_collector_that_is_down_delays_the_end_by_seconds_only(installed):
    telemetry.start("http://127.0.0.1:9")
    with telemetry.span("step"):
        pass
    began = time.monotonic()
    telemetry.stop()
    assert time.monotonic() - began < 60


def test_without_opentelemetry_one_line_says_so(monkeypatch, caplog):
    for name in ("opentelemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"telemetry: .*install auditlake\[otel\]"):
        TelemetrySettings(endpoint="http://127.0.0.1:4318").start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    TelemetrySettings().start()
    assert len(caplog.records) == 1
    assert "install auditlake[otel]" in caplog.text


def test_headers_are_sent_to_loopback_or_by_https_only():
    def chosen(**values):
        return validated(Settings, {"telemetry": values}, "auditlake.toml").telemetry

    token = {"X-Token": TOKEN}
    assert TOKEN not in repr(chosen(endpoint="https://otel.example.com", headers=token))
    assert chosen(endpoint="http://collector:4318").endpoint == "http://collector:4318"
    for wrong in ({"endpoint": "http://otel.example.com", "headers": token}, {"headers": token}):
        with pytest.raises(ConfigurationError, match=r"telemetry") as refused:
            chosen(**wrong)
        assert TOKEN not in str(refused.value)


def test_opentelemetry_is_not_imported_while_traces_are_off():
    code = (
        "import sys, pipelines.definitions\n"
        "from pipelines.cli import poll\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
