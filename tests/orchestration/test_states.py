"""The states that Dagster shows: of checks after rounds, pushes and failures, over its own API."""

import os
import re
import subprocess
import sys

import dagster as dg
import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from pipelines import definitions
from pipelines.cli import config_file
from pipelines.extraction.report import Report
from pipelines.settings import DagsterSettings
from pipelines.webhooks.dagster_reports import reporter
from tests.cli.up_process import PROJECT
from tests.dashboard.conftest import ARGUMENTS, CHROMIUM
from tests.dashboard.hands import shoot
from tests.waiting import free_ports, responds, until

RAW, EVENTS = dg.AssetKey(["raw", "okta", "system_log"]), dg.AssetKey("events")
QUICK = ("dense_seq", "freshness", "nothing_rejected", "same_content", "unique_event_id")

# The fields that the pages of Dagster show.
STATES = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name executionForLatestMaterialization { status evaluation { success description } } } } } } }"""


class Watched:
    """A lake with an instance of Dagster, whose web server runs in a process of its own."""

    def __init__(self, world, home, port):
        self.world, self.port = world, port
        self.instance = dg.DagsterInstance.from_config(str(home))
        self.made = definitions.definitions(world.lake, [world.source("okta")])

    def run(self, job, **options):
        chosen = self.made.resolve_job_def(job)
        return chosen.execute_in_process(instance=self.instance, raise_on_error=False, **options)

    def verdict(self, check, passed, asset=RAW, text=""):
        """Store a verdict as a run of the check does."""

        @dg.asset_check(asset=asset, name=check)
        def judged():
            return dg.AssetCheckResult(passed=passed, description=text)

        job = dg.Definitions(
            asset_checks=[judged],
            jobs=[dg.define_asset_job("judge", dg.AssetSelection.all_asset_checks())],
        ).resolve_job_def("judge")
        assert job.execute_in_process(instance=self.instance).success

    def push(self):
        with reporter(DagsterSettings(port=self.port)) as announced:
            announced.report(Report(integration="okta", stream="system_log", rows=1, total=9))

    def states(self, asset=RAW):
        answer = httpx.post(
            f"http://127.0.0.1:{self.port}/graphql", json={"query": STATES}, timeout=60
        )
        (node,) = (
            n for n in answer.json()["data"]["assetNodes"] if n["assetKey"]["path"] == asset.path
        )
        return {
            c["name"]: c["executionForLatestMaterialization"]
            and c["executionForLatestMaterialization"]["status"]
            for c in node["assetChecksOrError"]["checks"]
        }

    def shown(self, text, asset=RAW):
        """Return the checks' page of an asset in Chromium, once it contains this text."""
        # Started and stopped here: its event loop would interfere with runs in this process.
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"http://127.0.0.1:{self.port}/assets/{'/'.join(asset.path)}?view=checks")
            expect(page.get_by_text(text)).to_be_visible(timeout=240_000)
            shoot(page, "walk-dagster-checks")
            found = page.locator("body").inner_text()
            browser.close()
        return found


@pytest.fixture
def watched(still_world, tmp_path):
    home, (port,) = tmp_path / "home", free_ports(1)
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    config = tmp_path / "auditlake.toml"
    keys = {"okta": still_world.running.settings()["okta"]}
    config.write_text(config_file.document(keys, still_world.lake.root, integrity=str(tmp_path)))
    with (tmp_path / "web.txt").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster_webserver", "-m", "pipelines.definitions",
             "-p", str(port)],
            env={**os.environ, "PYTHONPATH": PROJECT, "DAGSTER_HOME": str(home),
                 "AUDITLAKE_CONFIG": str(config)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        made = Watched(still_world, home, port)
        until(lambda: responds(port), "Dagster's web server")
        yield made
    finally:
        process.terminate()
        process.wait()


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine: apt-get install chromium")
def test_verdicts_survive_pushes_and_rounds_until_the_check_runs_again(watched):
    assert watched.run("okta").success
    watched.verdict("as_signed", passed=False, text="CHANGED: row 10")
    watched.verdict("follows_from_raw", passed=True, asset=EVENTS)
    expected = {**dict.fromkeys(QUICK, "SUCCEEDED"), "as_signed": "FAILED"}
    for happens in (watched.push, lambda: watched.run("okta"), watched.push):
        happens()
        assert watched.states() == expected
        assert watched.states(EVENTS) == {"follows_from_raw": "SUCCEEDED"}
    page = watched.shown("CHANGED: row 10")
    assert re.search(r"as_signed\s+Failed", page)
    assert {name for name in expected if re.search(rf"{name}\s+Succeeded", page)} == set(QUICK)
    watched.verdict("as_signed", passed=True)
    watched.run("okta")
    assert set(watched.states().values()) == {"SUCCEEDED"}
