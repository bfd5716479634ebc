"""Fixtures: a small lake, the app over it, and a server with a browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Request,
    ViewportSize,
    sync_playwright,
)
from streamlit import config
from streamlit.testing.v1 import AppTest

from pipelines import registry
from pipelines.extraction import rounds
from pipelines.lake import identity_table
from pipelines.lake.tables import Lake
from sandbox.server import Options, running
from tests.dashboard import found, small_lakes
from tests.integrity.conftest import (  # noqa: F401 fixtures
    _filled,
    _nobody_is_landing,
    signed,
)
from tests.settings import other_sites

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "dashboard" / "app.py"
SHELL = REPOSITORY / "dashboard" / "navigation.py"
SHOTS = REPOSITORY / "test-artifacts" / "dashboard"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    other_sites.RESOLVED,
]
VIEWPORT = ViewportSize(width=1440, height=900)
EVENTS = 1200
ANCHOR = datetime.now(UTC)  # the end of the history of `live_lake`


def fill(root: Path) -> None:
    """Append ordinary events of the last six days."""
    small_lakes.append(root, small_lakes.events(EVENTS, end=datetime.now(UTC)))


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that no test changes."""
    root = tmp_path_factory.mktemp("filled")
    fill(root)
    return root


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], AppTest]:
    """The app, not yet run, over the lake at a root."""

    def over(root: Path) -> AppTest:
        monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "none.toml"))
        monkeypatch.setenv("AUDITLAKE_LAKE__ROOT", str(root))
        config.set_option("server.address", "127.0.0.1")
        return AppTest.from_file(str(SHELL), default_timeout=120)

    return over


@pytest.fixture(scope="session")
def judged(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with 40 findings of five rules; one revised, one withdrawn, one excepted."""
    root = tmp_path_factory.mktemp("judged") / "lake"
    shutil.copytree(filled, root)
    rows = found.spread(root)
    found.write(
        root,
        [
            rows[0] | {"revision": 1, "provisional": True},
            rows[5] | {"revision": 1, "status": "withdrawn"},
            rows[6] | {"revision": 1, "exception": "e1"},
        ],
    )
    return root


@pytest.fixture
def copied(judged: Path, tmp_path: Path) -> Path:
    """The same, to be written to."""
    shutil.copytree(judged, tmp_path / "lake")
    return tmp_path / "lake"


@pytest.fixture
def findings_at(app: Callable[[Path], AppTest]) -> Callable[..., AppTest]:
    """The page Findings over the lake at a root, shown with these parameters."""

    def show(root: Path, **given: str | list[str]) -> AppTest:
        app(root)
        code = "from dashboard.screens import findings\nfindings.show()"
        made = AppTest.from_string(code, default_timeout=120)
        for name, value in given.items():
            made.query_params[name] = value
        made.run()
        assert not made.exception
        return made

    return show


@pytest.fixture(scope="session")
def live_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weeks of sandbox events of all vendors, attacks included; browser tests append to it."""
    root = tmp_path_factory.mktemp("live")
    with running(Options(days=13, per_day=20, rate=0, anchor=ANCHOR)) as sandbox:
        sources = [registry.source(kind, keys) for kind, keys in sandbox.settings().items()]
        reports = rounds.poll(Lake(str(root)), sources)
    assert not [report.error for report in reports if report.error]
    identity_table.derive(Lake(str(root)))
    return root


@pytest.fixture(scope="session")
def server(live_lake: Path) -> Iterator[str]:
    """The address of a real server over `live_lake`, without sign-in."""
    with serving(live_lake, live_lake, free_port()) as address:
        yield address


@contextmanager
def serving(root: Path, folder: Path, port: int) -> Iterator[str]:
    """Run a server over the lake at `root` in `folder`, which may contain its secrets."""
    environment = os.environ | {
        "AUDITLAKE_CONFIG": str(folder / "none.toml"),
        "AUDITLAKE_LAKE__ROOT": str(root),
        "AUDITLAKE_INTEGRITY__FOLDER": f"{root}-state",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(APP)]
    options = ["--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true"]
    with subprocess.Popen([*command, *options], cwd=folder, env=environment) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _await(f"{address}/_stcore/health", process)
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One per module: Playwright's event loop would interfere with that of other tests."""
    if not CHROMIUM:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def foreign() -> list[str]:
    """Addresses of other hosts that a page of the test requested; has to stay empty."""
    return []


@pytest.fixture(scope="module")
def tab(browser: Browser, server: str) -> Iterator[Page]:
    """A page for all tests of a module.

    A new one would load and compile every script again, which is more than half of its cost.
    """
    context = browser.new_context(
        base_url=server, viewport=VIEWPORT, timezone_id="Europe/London", accept_downloads=True
    )
    yield context.new_page()
    context.close()


@pytest.fixture
def context(tab: Page, server: str, foreign: list[str]) -> Iterator[BrowserContext]:
    def note(request: Request) -> None:
        _note_foreign(request.url, server, foreign)

    tab.context.on("request", note)
    yield tab.context
    _forget(tab, server)
    tab.context.remove_listener("request", note)
    assert not foreign


@pytest.fixture
def page(context: BrowserContext, tab: Page) -> Page:
    """The page, which has stored nothing and shows nothing yet."""
    assert tab.context == context
    tab.set_default_timeout(120_000)
    return tab


def _forget(tab: Page, server: str) -> None:
    """Close what a test opened, and remove what it stored and set."""
    for page in tab.context.pages:
        if page != tab:
            page.close()
    # A page of the same origin that stores nothing itself.
    tab.goto(f"{server}/favicon.png")
    tab.evaluate("localStorage.clear(), sessionStorage.clear()")
    tab.goto("about:blank")
    tab.context.clear_cookies()
    tab.context.clear_permissions()
    tab.set_viewport_size(VIEWPORT)
    tab.emulate_media(color_scheme="null")


def _note_foreign(address: str, server: str, foreign: list[str]) -> None:
    ours = (f"{server}/", server.replace("http", "ws", 1), "data:", "blob:")
    if not address.startswith(ours):
        foreign.append(address)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=120)
    while datetime.now(UTC) < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - loopback
                return
        except OSError:
            _pause(process)
    raise RuntimeError("the dashboard's server did not start")


def _pause(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment, or until the process ends."""
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        return
