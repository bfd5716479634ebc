"""`auditlake up` as a user runs it: real servers, Dagster's own API, Ctrl-C, kill -9."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from pipelines import registry, settings
from pipelines.cli import up
from pipelines.lake import tables as lake_tables
from pipelines.lake.tables import Lake

PROJECT = str(Path(__file__).parents[2])
SECONDS = 420


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def until(ready, what):
    """Poll for a condition, within a bound."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not in {SECONDS} s: {what}")


@contextmanager
def started(tmp_path, **environment):
    names = ("DAGSTER", "DASHBOARD", "SANDBOX", "WEBHOOKS")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    settings = {f"AUDITLAKE_{name}__PORT": str(port) for name, port in ports.items()}
    out = tmp_path / "out.txt"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "up"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PROJECT, **settings, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, ports, out
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def children(tmp_path):
    """Processes that `up` in this folder started and that still run."""
    mark = f"AUDITLAKE_CONFIG={tmp_path}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def query(port, text):
    answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": text}, timeout=30)
    return answer.json()["data"]


ASSETS = """{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 20)
  { runId metadataEntries { label } } } }"""
FAILED = (
    """{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { jobName } } } }"""
)


def materialised(port):
    """The newest materialization by asset, once every service has one."""
    nodes = query(port, ASSETS)["assetNodes"]
    made = {"/".join(n["assetKey"]["path"]): n["assetMaterializations"] for n in nodes}
    green = {n["groupName"] for n in nodes if n["assetMaterializations"]}
    return made if made.get("events") and registry.kinds().keys() <= green else None


def pushed(tmp_path):
    """The number of rows that came by a webhook, in tables that webhooks write to."""
    lake = Lake(str(tmp_path / "data"))
    tables = ["raw/okta/system_log", "raw/office_365/exchange", "raw/office_365/sharepoint"]
    found = [lake_tables.scan(lake, table) for table in tables]
    return sum(
        table.filter(pl.col("via") == "webhook").collect().height
        for table in found
        if table is not None
    )


def test_everything_starts_is_visible_and_ends_with_ctrl_c(tmp_path):
    with started(tmp_path) as (process, ports, out):
        until(lambda: "the first events are available" in out.read_text(), "addresses")
        health = httpx.get(f"http://127.0.0.1:{ports['DASHBOARD']}/_stcore/health", timeout=30)
        assert health.text == "ok"
        made = until(lambda: materialised(ports["DAGSTER"]), "assets in Dagster")
        assert query(ports["DAGSTER"], FAILED)["runsOrError"]["results"] == []
        labels = {
            entry["label"]
            for key, materialisations in made.items()
            if key.startswith("raw/")
            for each in materialisations  # of runs, and of what was received
            for entry in each["metadataEntries"]
        }
        assert {"requests", "lag in seconds", "table version", "newest event"} <= labels
        checks = query(ports["DAGSTER"], "{ assetNodes { assetChecksOrError { ... on AssetChecks "
                       "{ checks { name } } } } }")  # fmt: skip
        assert "dense_seq" in json.dumps(checks)
        until(lambda: pushed(tmp_path), "a pushed event")
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert children(tmp_path) == []
    output = out.read_text()
    assert "using the built-in sandbox" in output
    assert "Traceback" not in output
    assert all(str(port) in output for port in ports.values())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_up(tmp_path, number):
    with started(tmp_path) as (process, _, out):
        until(lambda: len(children(tmp_path)) >= 3, "children")
        process.send_signal(number)
        code = process.wait(SECONDS)
    until(lambda: not children(tmp_path), "no child")
    assert code == (0 if number == signal.SIGTERM else -number), out.read_text()


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, AUDITLAKE_DASHBOARD__PORT=port) as (process, _, out):
            assert process.wait(SECONDS) == 2
    (line,) = out.read_text().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "dashboard.port" in line
    assert not (tmp_path / ".dagster").exists()


def test_an_invalid_configuration_is_reported_before_anything_starts(tmp_path):
    (tmp_path / "auditlake.toml").write_text("[integrations.okta]\nbase_ulr = 'x'\n")
    with started(tmp_path) as (process, _, out):
        assert process.wait(SECONDS) == 2
    assert "base_ulr: unknown key" in out.read_text()
    assert "stopping" not in out.read_text()
    assert not (tmp_path / ".dagster").exists()


def test_a_child_that_dies_is_named_with_the_end_of_its_log(tmp_path):
    (tmp_path / "auditlake.toml").write_text("[dashboard]\nhost = '127.0.0.1'\n")
    with started(tmp_path, DAGSTER_WEBSERVER_PROXY="x", PYTHONWARNINGS="") as (process, _, out):
        until((tmp_path / ".dagster" / "logs" / "dagster.log").exists, "Dagster's log")
        pid = until(lambda: _pid_of(tmp_path, b"dagster_webserver"), "Dagster")
        os.killpg(pid, signal.SIGKILL)
        assert process.wait(SECONDS) == 1
    assert "auditlake: dagster exited with code -9" in out.read_text()
    until(lambda: not children(tmp_path), "no child")


def _pid_of(tmp_path, word):
    mark = f"AUDITLAKE_CONFIG={tmp_path}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            family = os.getpgid(int(folder.name)) == int(folder.name)
            mine = family and mark in (folder / "environ").read_bytes()
            if mine and word in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    return None


def test_deleting_simulated_events_raises_no_alarm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lake = tmp_path / "data"
    (lake / "raw").mkdir(parents=True)
    (lake / "README.md").touch()
    config = up._write_sandbox_config(settings.from_environment())
    kept = settings.load(config).integrity.folder / "lakes" / "some" / "memory"
    kept.parent.mkdir(parents=True)
    kept.touch()
    up._write_sandbox_config(settings.from_environment())
    assert kept.exists()
    (lake / "raw").rmdir()
    up._write_sandbox_config(settings.from_environment())
    assert not kept.exists()
