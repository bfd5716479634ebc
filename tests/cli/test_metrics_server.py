"""The server of metrics is apart from the receiver, refuses other hosts, and reports its health."""

import json
import os
import subprocess
import sys

import httpx
import pytest

from pipelines import settings
from pipelines.cli import config_file, metrics_server, up
from tests.cli.command import PROJECT, auditlake, run
from tests.waiting import free_ports, until


def configured(folder, **sections):
    text = config_file.document({}, str(folder / "data"), integrity=str(folder / "state"))
    for name, keys in sections.items():
        text += f"\n[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
    (folder / "auditlake.toml").write_text(text)
    return settings.load(folder / "auditlake.toml")


@pytest.fixture
def served(tmp_path):
    (port,) = free_ports(1)
    configured(tmp_path, metrics={"port": port})
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "metrics", "--serve", "--log-format", "json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PROJECT},
            stdout=log,
            stderr=log,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        def responds():
            try:
                return client.get("/healthz")
            except httpx.TransportError:
                return None

        try:
            until(responds, "the server of metrics")
            yield client
        finally:
            process.terminate()
            assert process.wait(60) in (0, -15)


def test_metrics_and_health_are_served_to_the_own_name_only(served, tmp_path):
    sick = served.get("/healthz")
    assert sick.status_code == 503
    assert "data does not exist: correct lake.root" in sick.text
    (tmp_path / "data").mkdir()
    assert (served.get("/healthz").status_code, served.get("/healthz").text) == (200, "ok\n")
    shown = served.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE auditlake_lag_seconds gauge" in shown.text
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert served.get("/metrics", headers=headers).status_code == 403
    assert served.get("/").status_code == 404
    assert served.post("/metrics").status_code == 405
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "warning"]
    assert lines[0]["message"].startswith("metrics on http://127.0.0.1:")
    assert lines[1]["message"].startswith("refused a request: this host name is not among")


def test_the_port_of_the_receiver_is_refused(tmp_path):
    configured(tmp_path, metrics={"port": 8600})
    answer = auditlake(tmp_path, "metrics", "--serve")
    assert answer.returncode == 2
    assert answer.stderr.decode().startswith("auditlake: metrics.port is the port of the webhook")
    answer = auditlake(tmp_path, "metrics", "--serve", AUDITLAKE_LOG_FORMAT="json")
    (line,) = answer.stderr.splitlines()
    assert json.loads(line)["level"] == "error"


def test_up_starts_it_where_it_is_enabled(tmp_path):
    def addresses(**sections):
        chosen = configured(tmp_path, **sections)
        return {each.name: each.address for each in up._servers(chosen, simulated=False)}

    assert "metrics" not in addresses()
    assert addresses(metrics={"enabled": "true"})["metrics"] == "http://127.0.0.1:8620"


def test_scrapes_within_seconds_share_one_collection():
    collected, now = [], [0.0]

    class Collector:
        def collect(self):
            collected.append(now[0])
            return []

    registry = metrics_server.CollectorRegistry()
    registry.register(Collector())
    collected.clear()
    scrapes = metrics_server.Scrapes(registry, clock=lambda: now[0])
    for now[0] in (1.0, 2.0, 10.9, 11.1, 12.0):
        scrapes.text()
    assert collected == [1.0, 11.1]


def test_an_error_of_the_lake_is_one_line(tmp_path):
    configured(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "events").mkdir()
    (tmp_path / "data" / "events" / "_delta_log").write_text("no folder")
    answer = run(tmp_path, "metrics")
    assert "Traceback" not in answer.output
