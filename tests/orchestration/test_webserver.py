"""Dagster's real web server behind the guard: pages of other sites change and read nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from tests.dashboard.conftest import browser
from tests.integrity import matrix
from tests.settings import other_sites
from tests.waiting import free_ports, responds, until

__all__ = ["browser"]

PROJECT = str(Path(__file__).parents[2])
PUBLIC = "dagster.acme.example"
DEFINITIONS = """
import dagster as dg

@dg.asset
def stored() -> None: ...

job = dg.define_asset_job("job", [stored])

@dg.sensor(job=job, default_status=dg.DefaultSensorStatus.RUNNING)
def watch() -> None: ...

defs = dg.Definitions(assets=[stored], jobs=[job], sensors=[watch])
"""
SENSOR = (
    '{repositoryName: "__repository__", repositoryLocationName: "made.py", sensorName: "watch"}'
)
STATE = f"""{{ sensorOrError(sensorSelector: {SENSOR}) {{ __typename
  ... on Sensor {{ sensorState {{ id status }} }} }} }}"""
START = f"mutation {{ startSensor(sensorSelector: {SENSOR}) {{ __typename }} }}"


class Dagster:
    def __init__(self, port):
        self.port, self.address = port, f"http://127.0.0.1:{port}"

    def query(self, text, **headers):
        answer = httpx.post(
            f"{self.address}/graphql", json={"query": text}, headers=headers, timeout=60
        )
        return answer.raise_for_status().json()["data"]

    @property
    def sensor(self):
        return self.query(STATE)["sensorOrError"]["sensorState"]

    @property
    def stop(self):
        return f'mutation {{ stopSensor(id: "{self.sensor["id"]}") {{ __typename }} }}'

    def link(self, text):
        """The address of a GET that carries a query."""
        return f"{self.address}/graphql?{urlencode({'query': text})}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    home, (port,) = tmp_path_factory.mktemp("home"), free_ports(1)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (home / "made.py").write_text(DEFINITIONS)
    (home / "auditlake.toml").write_text(f'[dagster]\nport = 3000\nallowed_hosts = ["{PUBLIC}"]\n')
    environment = {
        **os.environ,
        "PYTHONPATH": PROJECT,
        "DAGSTER_HOME": str(home),
        "AUDITLAKE_CONFIG": str(home / "auditlake.toml"),
    }
    command = [sys.executable, "-m", "pipelines.orchestration.webserver"]
    with (home / "web.txt").open("wb") as out:
        process = subprocess.Popen(
            [*command, "-f", "made.py", "-p", str(port)],
            cwd=home,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: responds(port), "Dagster's web server")
        yield Dagster(port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def dagster(served):
    """Dagster with a running sensor."""
    served.query(START)
    assert served.sensor["status"] == "RUNNING"
    return served


@matrix.attack(
    "stop a sensor by an image, script, frame or fetch on any page",
    "403",
    matrix.SITE,
)
@pytest.mark.browser
@pytest.mark.parametrize(
    "html",
    [
        '<img src="{link}" onerror="document.title = \'done\'">',
        '<script src="{link}" onerror="document.title = \'done\'"></script>',
        '<iframe src="{link}" onload="document.title = \'done\'"></iframe>',
        "<script>fetch(`{link}`, {{mode: 'no-cors'}}).finally(() => document.title = 'done')"
        "</script>",
        "<script>fetch(`{link}`, {{mode: 'no-cors', method: 'POST'}}).finally("
        "() => document.title = 'done')</script>",
    ],
)  # fmt: skip
def test_no_page_of_another_site_stops_a_sensor(dagster, browser, html):
    page = browser.new_page()
    with other_sites.page(html.format(link=dagster.link(dagster.stop))) as other:
        page.goto(other)
        page.wait_for_function("document.title === 'done'")
    page.close()
    assert dagster.sensor["status"] == "RUNNING"


@matrix.attack(
    "stop a sensor by a link",
    "403",
    matrix.JSON,
)
@pytest.mark.browser
def test_no_link_stops_a_sensor(dagster, browser):
    page = browser.new_page()
    link = dagster.link(dagster.stop)
    with other_sites.page(f"<a id=link href='{link}'>free coffee</a>") as other:
        page.goto(other)
        with page.expect_navigation():
            page.click("#link")
    assert "refused" in page.inner_text("body")
    page.close()
    assert dagster.sensor["status"] == "RUNNING"


@matrix.attack(
    "read Dagster by DNS rebinding",
    "403",
    matrix.HOST,
)
@pytest.mark.browser
def test_dns_rebinding_reads_nothing(dagster, browser):
    page = browser.new_page()
    answer = page.goto(f"http://{other_sites.REBOUND}:{dagster.port}/")
    assert (answer.status, page.title()) == (403, "")
    page.close()


@matrix.attack(
    "stop a sensor through a browser that sends no Sec-Fetch-Site",
    "403",
    matrix.JSON,
)
def test_even_an_old_browser_executes_nothing_by_get(dagster):
    """It sends neither Origin nor Sec-Fetch-Site."""
    for send in (httpx.get, httpx.post):
        refused = send(dagster.link(dagster.stop), timeout=60)
        assert refused.status_code == 403
    for kind in ("application/graphql", "text/plain;application/json"):
        stop = dagster.stop
        content = stop if kind.endswith("graphql") else json.dumps({"query": stop})
        refused = httpx.post(
            f"{dagster.address}/graphql", content=content, headers={"Content-Type": kind}
        )
        assert refused.status_code == 403
    assert dagster.sensor["status"] == "RUNNING"


@matrix.attack(
    "report an asset to Dagster from a page",
    "403",
    matrix.ORIGIN,
)
def test_a_page_of_another_origin_reports_no_asset(dagster):
    address = f"{dagster.address}/report_asset_materialization/stored"
    other = httpx.post(address, headers={"Origin": "http://127.0.0.1:9999"}, timeout=60)
    assert other.status_code == 403
    assert httpx.post(address, timeout=60).status_code == 200


@matrix.attack(
    "open a WebSocket of Dagster from a page of another origin",
    "403",
    matrix.ORIGIN,
)
@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("http://127.0.0.1:{port}", "", 101),
        ("https://dagster.acme.example", PUBLIC, 101),
        ("https://dagster.acme.example", "", 101),
        (None, "", 101),
        ("http://127.0.0.1:9999", "", 403),
        ("https://evil.example", "", 403),
        ("http://rebound.example:{port}", "rebound.example:{port}", 403),
    ],
)
def test_a_websocket_opens_for_the_own_page_only(served, origin, host, code):
    sent = origin.format(port=served.port) if origin else None
    name = host.format(port=served.port)
    assert other_sites.handshake(served.port, "/graphql", sent, name) == code


@pytest.mark.browser
def test_its_own_pages_and_programs_work(dagster, browser):
    page = browser.new_page()
    refused = []
    page.on("response", lambda got: refused.append(got.url) if got.status == 403 else None)
    with page.expect_response("**/graphql*"), page.expect_websocket():
        page.goto(f"http://localhost:{dagster.port}/assets/stored")
    page.get_by_text("stored").first.wait_for(timeout=120_000)
    assert refused == []
    page.close()
    dagster.query(dagster.stop, Host=PUBLIC, Origin=f"https://{PUBLIC}")
    assert dagster.sensor["status"] == "STOPPED"
