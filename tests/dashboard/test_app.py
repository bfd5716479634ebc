"""The server that serves the app."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.dashboard.conftest import APP, REPOSITORY, free_port, serving
from tests.integrity import matrix
from tests.settings import other_sites


def test_it_does_not_listen_beyond_loopback_without_sign_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.headless=true"]
    options = ["--server.address=0.0.0.0", f"--server.port={free_port()}"]
    ended = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1
    assert "without sign-in: set dashboard.host" in ended.stderr


_LATER = """
import sys
from streamlit import config
from streamlit.testing.v1 import AppTest
config.set_option("server.address", "127.0.0.1")
import dashboard.app
before = set(sys.modules)
for screen in ("access", "entities", "explore", "findings", "integrity", "sources"):
    page = AppTest.from_string(f"from dashboard.screens import {screen}\\n{screen}.show()")
    page.run(timeout=300)
    assert not page.exception, page.exception
print(*sorted(set(sys.modules) - before))
"""


def test_pages_use_nothing_that_another_visitor_may_still_be_importing(
    judged: Path, tmp_path: Path
) -> None:
    environment = os.environ | {
        "AUDITLAKE_CONFIG": str(tmp_path / "none.toml"),
        "AUDITLAKE_LAKE__ROOT": str(judged),
    }
    ended = subprocess.run(
        [sys.executable, "-c", _LATER],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    later = ended.stdout.split()
    assert [name for name in later if name.startswith(("dashboard.", "pipelines."))] == []
    # Altair and Streamlit look for these in sys.modules.
    assert not {"altair", "narwhals", "numpy", "pandas", "polars", "pyarrow"} & set(later)


PUBLIC = "audit.acme.example"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over an empty lake, with a public name."""
    root = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDITLAKE_DASHBOARD__PORT", "8501")
        patch.setenv("AUDITLAKE_DASHBOARD__ALLOWED_HOSTS", f'["{PUBLIC}"]')
        patch.setenv("STREAMLIT_BROWSER_SERVER_ADDRESS", PUBLIC)
        with serving(root, root, free_port()) as address:
            yield address


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def status(address: str, **headers: str) -> int:
    """Return the status of the first page, as a request with these headers gets it."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(address, headers=sent).status_code


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/_stcore/host-config", "/files/a.csv"])
def test_a_name_of_the_attacker_reaches_nothing(address: str, path: str) -> None:
    rebound = {"Host": f"{other_sites.REBOUND}:{port(address)}"}
    assert httpx.get(f"{address}{path}", headers=rebound).status_code == 403
    assert httpx.get(f"{address}{path}", headers={"Host": PUBLIC}).status_code != 403
    assert httpx.get(f"{address}{path}").status_code != 403


@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("http://{own}", "", 101),
        ("http://localhost:{port}", "localhost:{port}", 101),
        (f"https://{PUBLIC}", PUBLIC, 101),
        (f"https://{PUBLIC}", "", 101),
        (None, "", 101),
        ("http://127.0.0.1:9999", "", 403),
        ("http://localhost:{port}", "", 403),
        ("https://evil.example", "", 403),
        ("null", "", 403),
        ("http://rebound.example:{port}", "rebound.example:{port}", 403),
    ],
)
def test_a_websocket_opens_for_the_own_page_only(
    address: str, origin: str | None, host: str, code: int
) -> None:
    values = {"own": address.removeprefix("http://"), "port": port(address)}
    sent = origin.format(**values) if origin else None
    path = "/_stcore/stream"
    assert other_sites.handshake(port(address), path, sent, host.format(**values)) == code


@matrix.attack(
    "embed the dashboard in a page of another site",
    "403",
    matrix.SITE,
)
def test_another_site_may_link_to_a_page_but_not_embed_it(address: str) -> None:
    link = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    frame = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}
    for site in ("cross-site", "same-site"):
        assert status(address, sec_fetch_site=site, **link) == 200
        assert status(address, sec_fetch_site=site, **frame) == 403
    assert status(address, sec_fetch_site="same-origin", **frame) == 200


@matrix.attack(
    "read the dashboard by DNS rebinding",
    "403",
    matrix.HOST,
)
@pytest.mark.browser
def test_dns_rebinding_shows_nothing_of_the_lake(address: str, browser: Browser) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://{other_sites.REBOUND}:{port(address)}/")
    assert answer is not None
    assert (answer.status, page.title()) == (403, "")
    assert "allowed_hosts" in page.inner_text("body")
    page.close()


@matrix.attack(
    "open a WebSocket of the dashboard from a page on another local port",
    "403",
    matrix.ORIGIN,
)
@pytest.mark.browser
def test_a_page_on_another_local_port_gets_no_websocket(address: str, browser: Browser) -> None:
    target = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    page = browser.new_page()
    with other_sites.page(other_sites.OPENS_SOCKET % target) as other:
        page.goto(other)
        page.wait_for_function("document.title !== ''")
    assert page.title() == "refused"
    page.close()


@pytest.mark.browser
def test_the_page_itself_works(address: str, browser: Browser) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.on("response", lambda got: refused.append(got.url) if got.status == 403 else None)
    with page.expect_websocket():
        page.goto(f"http://localhost:{port(address)}/")
    page.get_by_role("link", name="Explore").first.wait_for()
    assert refused == []
    page.close()
