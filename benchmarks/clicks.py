"""Time from a click to the finished page, in Chromium on a lake of ten million events.

Run it from the repository: `.venv/bin/python benchmarks/clicks.py`, with the same `--root` as
benchmarks/dashboard.py, since both use the same lake. Every click is made in five sessions whose
time ranges differ by a minute, so that no cached result is reused. A page is finished when
Streamlit is idle and the page has not changed for 400 ms; those 400 ms are not counted. The script
prints the median and the maximum, and the CPU time of the server and of all Chromium processes,
which is the more reliable figure on a busy machine. With --analysts N, so many browsers use the
server at the same time, and each reads for five seconds after every click.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import generated  # noqa: E402
from benchmarks.dashboard import rolled_up  # noqa: E402
from dashboard import times  # noqa: E402
from dashboard.times import Between  # noqa: E402

APP = Path(__file__).parents[1] / "dashboard" / "app.py"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SPANS = {"30 days": timedelta(days=30), "everything": timedelta(days=generated.DAYS)}
_SESSIONS = 5
_READS = 5_000
"""Milliseconds between the clicks of one of several analysts."""
_GRID = '[class*="st-key-events-"] [data-testid="stDataFrame"]'
# Streamlit has no event for a finished page: watch the document and note its last change.
_WATCH = """() => {
  window.clicked = window.changed = performance.now();
  window.watch ??= new MutationObserver(() => { window.changed = performance.now(); });
  window.watch.observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
_FINISHED = """() => window.changed > window.clicked && performance.now() - window.changed > 400
  && document.querySelector('[data-testid="stApp"]').dataset.testScriptState === 'notRunning'"""
_TOOK = "() => window.changed - window.clicked"


_JIFFIES = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A page in a browser, and the processes behind it."""

    page: Page
    address: str
    server: int
    chromium: CDPSession

    def used(self) -> tuple[float, float]:
        """Return the CPU time so far in ms: of the server, and of all Chromium processes."""
        # The name of the process, in parentheses, may contain spaces; the numbers follow it.
        stat = Path(f"/proc/{self.server}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        server = sum(map(int, stat.split()[11:13])) * 1000 / _JIFFIES
        found = self.chromium.send("SystemInfo.getProcessInfo")
        return server, sum(each["cpuTime"] for each in found["processInfo"]) * 1000


Took = dict[str, list[tuple[float, float, float]]]
"""Per click and session, in ms: wall-clock time, CPU time of the server and of Chromium."""


@contextmanager
def served(root: Path) -> Iterator[tuple[str, int]]:
    """Run the dashboard on the lake at `root`; yield its address and process ID."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"AUDITLAKE_CONFIG": "none", "AUDITLAKE_LAKE__ROOT": str(root)}
    command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.headless=true"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _await(f"{address}/_stcore/health")
            yield address, process.pid
        finally:
            process.terminate()


def _await(address: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 loopback
                return
        except OSError:
            time.sleep(0.4)
    raise RuntimeError("the dashboard did not start within two minutes")


def timed(visit: Visit, act: Callable[[], object]) -> tuple[float, float, float]:
    """Return wall-clock ms until the page last changed, and CPU ms until it was finished."""
    page, before = visit.page, visit.used()
    page.evaluate(_WATCH)
    act()
    page.wait_for_function(_FINISHED, timeout=120_000)
    took: float = page.evaluate(_TOOK)
    server, chromium = (now - then for now, then in zip(visit.used(), before, strict=True))
    return took, server, chromium


def opened(visit: Visit, span: str) -> tuple[float, float, float]:
    """Return the same figures for opening the page at its address."""
    page, before = visit.page, visit.used()
    start = time.perf_counter()
    page.goto(f"{visit.address}/?range={span}")
    page.locator(_GRID).wait_for(timeout=120_000)
    page.evaluate(_WATCH)
    # The observer can only be installed after loading: wait for later changes, then subtract.
    page.wait_for_timeout(1500)
    took = (time.perf_counter() - start) * 1000 - 1500 + page.evaluate(_TOOK)
    server, chromium = (now - then for now, then in zip(visit.used(), before, strict=True))
    return took, server, chromium


def session(browser: Browser, served: tuple[str, int], span: str, took: Took, reads: int) -> None:
    """Make every click once in a new browser context, and append the times to `took`."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, timezone_id="UTC")
    page = context.new_page()
    chromium = browser.new_browser_cdp_session()
    visit = Visit(page=page, address=served[0], server=served[1], chromium=chromium)
    took.setdefault("open the page", []).append(opened(visit, span))
    search = page.get_by_role("searchbox", name="Search").or_(page.get_by_label("Search")).first
    clicks: dict[str, Callable[[], object]] = {
        "group by outcome": page.get_by_role("radio", name="Outcome").first.click,
        "open an event": lambda: _row(page),
        "close it": lambda: page.keyboard.press("Escape"),
        "facet of actors": page.locator(".st-key-filter_actor button").first.click,
        "close the facet": lambda: page.keyboard.press("Escape"),
        "text search": lambda: (search.fill("quarterly"), search.press("Enter")),
        "clear all": page.get_by_role("button", name="Clear all").click,
    }
    for name, act in clicks.items():
        page.wait_for_timeout(reads)
        took.setdefault(name, []).append(timed(visit, act))
    context.close()


def _row(page: Page) -> None:
    # The grid is a canvas, without elements to click on.
    box = page.locator(_GRID).bounding_box()
    assert box
    x, y = box["x"] + 400, box["y"] + 45 + 28 * 3
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(200)
    page.evaluate(_WATCH)  # start the clock again, without the hover
    page.mouse.click(x, y)


def sessions(server: tuple[str, int], span: str, count: int, analysts: int, number: int) -> Took:
    """Return the times of analyst `number` of `analysts`, who opens a browser."""
    took: Took = {}
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for minutes in range(number, count * analysts, analysts):
            until = generated.UNTIL - timedelta(minutes=minutes)
            between = times.show(Between(since=until - SPANS[span], until=until))
            session(browser, server, between, took, _READS if analysts > 1 else 0)
        browser.close()
    return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--root", type=Path, default=Path(".cache/benchmark-dashboard"))
    options.add_argument("--sessions", type=int, default=_SESSIONS)
    options.add_argument("--analysts", type=int, default=1)
    given = options.parse_args()
    root = rolled_up(generated.lake(given.root, given.events)).resolve()
    analysts: int = given.analysts
    with served(root) as server, ProcessPoolExecutor(analysts, get_context("spawn")) as pool:
        for span in SPANS:
            each_one = partial(sessions, server, span, given.sessions, analysts)
            found = list(pool.map(each_one, range(analysts)))
            head = " ".join(f"{word:>8}" for word in ("median", "max", "server", "Chromium"))
            print(f"\n{f'{given.events:,} events, {span}':<40} {head}  ms")
            for click in found[0]:
                clock, *cpu = zip(*chain(*(took[click] for took in found)), strict=True)
                figures = (median(clock), max(clock), *map(median, cpu))
                print(f"  {click:<38} " + " ".join(f"{ms:>8.0f}" for ms in figures), flush=True)
        status = Path(f"/proc/{server[1]}/status").read_text(encoding="utf-8")
        memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        print(f"\npeak memory of the server, MB {memory:>21.0f}")


if __name__ == "__main__":
    main()
