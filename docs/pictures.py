"""Take the README's screenshots: the dashboard in Chromium, over two weeks of sandbox events.

Run it from the repository: `.venv/bin/python docs/pictures.py`. It writes docs/images/*.png.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
import polars as pl
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipelines import registry
from pipelines.detections import engine, rules, ruleset
from pipelines.extraction import rounds
from pipelines.lake.tables import Lake
from sandbox.server import Options, running

PROJECT = Path(__file__).parents[1]
IMAGES = PROJECT / "docs" / "images"
ATTACKER = "203.0.113.66"
_TIMEOUT = 240_000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, served(fill(Path(folder))) as address:
        events = pl.scan_delta(f"{folder}/events")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            for name, (scheme, path, tab) in pictures(events, folder).items():
                take(browser, address + path, IMAGES / f"{name}.png", scheme, tab)


def pictures(events: pl.LazyFrame, folder: str) -> dict[str, tuple[str, str, str]]:
    """Return file name -> colour scheme, address, and the details tab to open."""
    theirs = events.filter(source_ip=ATTACKER)
    began, ended = (
        theirs.select(first=pl.col("time").min(), last=pl.col("time").max()).collect().row(0)
    )
    hours = f"{began:%Y-%m-%dT%H}:00:00Z..{ended:%Y-%m-%dT%H}:59:00Z"
    usual = events.filter(integration="google_workspace", outcome="success")
    failed = theirs.filter(integration="okta", outcome="failure")
    known = pl.scan_delta(f"{folder}/findings").filter(level="high", status="found")
    finding = known.filter(pl.col("count") > 1).top_k(1, by="time").collect().row(0, named=True)
    return {
        "findings": ("light", "/findings", ""),
        "finding": ("light", f"/findings?id={finding['finding_uid']}", ""),
        "explore": ("light", f"/?range=14d&by=integration&ev={newest(usual)}", "Details"),
        "stands-out": ("light", f"/?range={hours}&by=outcome&tab=out", ""),
        "dark": (
            "dark",
            f"/?range={hours}&by=action_type&f=integration:okta&f=-outcome:success"
            f"&ev={newest(failed)}",
            "Raw JSON",
        ),
    }


def newest(events: pl.LazyFrame) -> str:
    """Return the newest event as the parameter `ev`."""
    day, uid = events.top_k(1, by="time").select("date", "event_uid").collect().row(0)
    return quote(f"{day}/{uid}")


def take(browser: Browser, address: str, file: Path, scheme: str, tab: str) -> None:
    page = browser.new_page(
        viewport={"width": 1440, "height": 900},
        timezone_id="Europe/London",
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(address, timeout=_TIMEOUT)
    wait_until_idle(page)
    if tab:
        page.get_by_role("tab", name=tab).click(timeout=_TIMEOUT)
        wait_until_idle(page)
    # Away from the chart and the rows: no tooltip and no highlight in the picture.
    page.mouse.move(700, 20)
    page.screenshot(path=file)
    page.close()
    Image.open(file).convert("RGB").quantize(255).save(file, optimize=True)


def wait_until_idle(page: Page) -> None:
    """Wait for the first grid, the end of the script, and the last animations."""
    expect(page.locator("[data-testid='stDataFrame']").first).to_be_visible(timeout=_TIMEOUT)
    app = page.locator("[data-testid='stApp'][data-test-script-state='notRunning']")
    expect(app).to_be_attached(timeout=_TIMEOUT)
    page.wait_for_timeout(3000)


def fill(root: Path) -> Path:
    """Poll two weeks of sandbox events into a lake at `root`, detect, and return it."""
    with running(Options(days=14, per_day=80, rate=0, incidents=True)) as sandbox:
        sources = [registry.source(kind, keys) for kind, keys in sandbox.settings().items()]
        rounds.poll(Lake(str(root)), sources)
    list(engine.detect(Lake(str(root)), ruleset.compiled(rules.load([PROJECT / "rules"]))))
    return root


@contextmanager
def served(root: Path) -> Iterator[str]:
    """Yield the address of a dashboard over the lake at `root`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT / "dashboard" / "app.py")]
    options = ["--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true"]
    environment = {
        **os.environ,
        "AUDITLAKE_CONFIG": str(root / "none.toml"),
        "AUDITLAKE_LAKE__ROOT": str(root),
    }
    with subprocess.Popen([*command, *options], cwd=root, env=environment) as server:
        try:
            wait_for_response(f"http://127.0.0.1:{port}/_stcore/health")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def wait_for_response(address: str) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            httpx.get(address, trust_env=False)
            return
        time.sleep(0.2)
    raise RuntimeError(f"{address}: no response within 300 s")


if __name__ == "__main__":
    main()
