"""From a click to the finished page, in a real Chromium on a lake of ten million events.

Run it from the repository: `.venv/bin/python benchmarks/clicks.py`, with the `--root` of
benchmarks/dashboard.py, whose lake it shows. Each click is made in five sessions, each of another
span by a minute, so that no answer is remembered; a page is finished when Streamlit rests and
nothing on it has changed for 400 ms, which are not counted. The median and the worst are printed,
and the CPU that the server and all of Chromium took meanwhile: on a busy machine it says more.
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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
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
_GRID = '[class*="st-key-events-"] [data-testid="stDataFrame"]'
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
    """A page, and the processes behind it."""

    page: Page
    address: str
    server: int
    chromium: CDPSession

    def used(self) -> tuple[float, float]:
        """Milliseconds of CPU so far: the server's, and those of all processes of Chromium."""
        stat = Path(f"/proc/{self.server}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        server = sum(map(int, stat.split()[11:13])) * 1000 / _JIFFIES
        told = self.chromium.send("SystemInfo.getProcessInfo")
        return server, sum(one["cpuTime"] for one in told["processInfo"]) * 1000


Took = dict[str, list[tuple[float, float, float]]]
"""Of each click milliseconds by the clock, and of CPU: the server's and Chromium's."""


@contextmanager
def served(root: Path) -> Iterator[tuple[str, int]]:
    """The address of the dashboard over the lake at `root`, and its process."""
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
    raise RuntimeError("the dashboard did not come up")


def timed(visit: Visit, act: Callable[[], object]) -> tuple[float, float, float]:
    """From the click to the last change of the page; CPU until it has stood still for a while."""
    page, before = visit.page, visit.used()
    page.evaluate(_WATCH)
    act()
    page.wait_for_function(_FINISHED, timeout=120_000)
    took: float = page.evaluate(_TOOK)
    server, chromium = (now - then for now, then in zip(visit.used(), before, strict=True))
    return took, server, chromium


def opened(visit: Visit, span: str) -> tuple[float, float, float]:
    """From the address to the finished page."""
    page, before = visit.page, visit.used()
    start = time.perf_counter()
    page.goto(f"{visit.address}/?range={span}")
    page.locator(_GRID).wait_for(timeout=120_000)
    page.evaluate(_WATCH)
    page.wait_for_timeout(1500)
    took = (time.perf_counter() - start) * 1000 - 1500 + page.evaluate(_TOOK)
    server, chromium = (now - then for now, then in zip(visit.used(), before, strict=True))
    return took, server, chromium


def session(browser: Browser, served: tuple[str, int], span: str, took: Took) -> None:
    """One visit that makes every click; what each took is added to `took`."""
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
        took.setdefault(name, []).append(timed(visit, act))
    context.close()


def _row(page: Page) -> None:
    box = page.locator(_GRID).bounding_box()
    assert box
    x, y = box["x"] + 400, box["y"] + 45 + 28 * 3
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(200)
    page.evaluate(_WATCH)
    page.mouse.click(x, y)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--root", type=Path, default=Path(".cache/benchmark-dashboard"))
    options.add_argument("--sessions", type=int, default=_SESSIONS)
    given = options.parse_args()
    root = rolled_up(generated.lake(given.root, given.events)).resolve()
    chromium = shutil.which("chromium")
    with served(root) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for name, length in SPANS.items():
            took: Took = {}
            for number in range(given.sessions):
                until = generated.UNTIL - timedelta(minutes=number)
                span = times.show(Between(since=until - length, until=until))
                session(browser, server, span, took)
            head = " ".join(f"{word:>8}" for word in ("median", "worst", "server", "Chromium"))
            print(f"\n{f'{given.events:,} events, {name}':<40} {head}  ms")
            for click, each in took.items():
                clock, server_cpu, chromium_cpu = zip(*each, strict=True)
                figures = (median(clock), max(clock), median(server_cpu), median(chromium_cpu))
                print(f"  {click:<38} " + " ".join(f"{ms:>8.0f}" for ms in figures), flush=True)
        status = Path(f"/proc/{server[1]}/status").read_text(encoding="utf-8")
        memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        print(f"\nmost memory of the server, MB {memory:>21.0f}")
        browser.close()


if __name__ == "__main__":
    main()
