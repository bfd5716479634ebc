"""`auditlake up` as a user runs it: real servers, Dagster's own API, Ctrl-C, kill -9."""

import json
import signal

import httpx
import polars as pl
import pytest
from playwright.sync_api import expect, sync_playwright

from pipelines import registry, settings
from pipelines.cli import up
from pipelines.lake import tables as lake_tables
from pipelines.lake.tables import Lake
from tests.cli import installed
from tests.cli.up_process import children, started
from tests.dashboard.conftest import ARGUMENTS, CHROMIUM
from tests.dashboard.hands import settled
from tests.tiers import FULL
from tests.waiting import SECONDS, until


def query(port, text):
    answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": text}, timeout=30)
    return answer.json()["data"]


ASSETS = """{ assetNodes { assetKey { path } groupName assetMaterializations(limit: 20)
  { runId metadataEntries { label } } } }"""
PAGES = {
    "": "Audit log",
    "entities": "Entities",
    "sources": "Sources",
    "integrity": "Integrity",
    "access": "Access",
}
FAILED = (
    """{ runsOrError(filter: {statuses: [FAILURE]}) { ... on Runs { results { jobName } } } }"""
)


def materialised(port):
    """The newest materializations by asset, once three services have one, or all in full."""
    nodes = query(port, ASSETS)["assetNodes"]
    made = {"/".join(n["assetKey"]["path"]): n["assetMaterializations"] for n in nodes}
    green = {n["groupName"] for n in nodes if n["assetMaterializations"]}
    enough = len(registry.kinds()) if FULL else 3
    return made if made.get("events") and len(green & registry.kinds().keys()) >= enough else None


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


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The command `auditlake` of the built wheel, which has no checkout next to it."""
    folder = tmp_path_factory.mktemp("installed")
    programs = installed.install(installed.build("wheel", folder / "dist"), folder / "environment")
    return (str(programs / "auditlake"),)


def show_every_page(port):
    """Open each page of the dashboard in a browser, until it has been computed without an error."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = chromium.new_page()
        for path, title in PAGES.items():
            page.goto(f"http://127.0.0.1:{port}/{path}")
            expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
            settled(page)
            expect(page.get_by_test_id("stException")).to_have_count(0)
        chromium.close()


def test_everything_starts_is_visible_and_ends_with_ctrl_c(tmp_path, program):
    # A folder with modules of its own, which must not replace those of the program.
    for name in ("pipelines", "dashboard", "sandbox"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a module of the user')")
    with started(tmp_path, program, PYTHONPATH="") as (process, ports, out):
        until(lambda: "the first events are available" in out.read_text(), "addresses")
        if CHROMIUM:
            show_every_page(ports["DASHBOARD"])
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
        logs = [path.read_text() for path in (tmp_path / ".dagster" / "logs").iterdir()]
        assert not [log for log in logs if "Warning" in log or "WARNING" in log]
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
    assert children(tmp_path) == []
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("data", ".dagster")]
    assert modes == [0o700, 0o700]
    output = out.read_text()
    assert "using the built-in sandbox" in output
    assert "Traceback" not in output
    assert all(str(port) in output for port in ports.values())


def test_an_invalid_configuration_is_reported_before_anything_starts(tmp_path):
    (tmp_path / "auditlake.toml").write_text("[integrations.okta]\nbase_ulr = 'x'\n")
    with started(tmp_path) as (process, _, out):
        assert process.wait(SECONDS) == 2
    assert "base_ulr: unknown key" in out.read_text()
    assert "stopping" not in out.read_text()
    assert not (tmp_path / ".dagster").exists()


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


def test_public_names_reach_the_servers(monkeypatch):
    for name in ("DASHBOARD", "SANDBOX"):
        monkeypatch.setenv(f"AUDITLAKE_{name}__PORT", "1")
        monkeypatch.setenv(f"AUDITLAKE_{name}__ALLOWED_HOSTS", f'["{name}.example:8443", "b"]')
    servers = up._servers(settings.from_environment(), simulated=True)
    commands = {server.name: list(server.command) for server in servers}
    assert "--browser.serverAddress=dashboard.example" in commands["dashboard"]
    assert commands["sandbox"].count("--allowed-host=sandbox.example:8443") == 1
    assert "pipelines.orchestration.webserver" in commands["dagster"]


def test_dagster_keeps_the_home_and_the_configuration_of_its_operator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    own = up._environment(tmp_path / "auditlake.toml")
    assert own["DAGSTER_HOME"] == str(tmp_path / ".dagster" / "home")
    assert own["AUDITLAKE_DAGSTER__DEDICATED"] == "true"
    assert "run_monitoring" in (tmp_path / ".dagster" / "home" / "dagster.yaml").read_text()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "theirs"))
    theirs = up._environment(tmp_path)
    assert theirs["DAGSTER_HOME"] == str(tmp_path / "theirs")
    assert theirs["AUDITLAKE_DAGSTER__DEDICATED"] == "false"
    (tmp_path / "theirs" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    up._environment(tmp_path)
    assert (tmp_path / "theirs" / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["dagster.yaml"]


def test_the_programs_of_dagster_log_in_the_same_format(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "--log-format" not in up._dagster_daemon().command
    monkeypatch.setenv("AUDITLAKE_LOG_FORMAT", "json")
    servers = up._servers(settings.from_environment(), simulated=True)
    (web,) = (each for each in servers if each.name == "dagster")
    for server in (web, up._dagster_daemon(), up._dagster_code(tmp_path / "socket")):
        assert list(server.command)[-2:] == ["--log-format", "json"]
