"""The app's script, where its pages cannot be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from tests.dashboard.shown import App, shown_text


def test_an_invalid_configuration_is_reported(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = app(tmp_path)
    (tmp_path / "faulty.toml").write_text("[lake]\nrot = 1\n")
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "faulty.toml"))
    page.run()
    assert not page.exception
    assert "lake.rot: unknown key" in shown_text(page)


@pytest.fixture
def exposed(app: App) -> Iterator[Callable[[Path], AppTest]]:
    """The app on a server that listens on all addresses."""

    def over(root: Path) -> AppTest:
        page = app(root)
        config.set_option("server.address", "0.0.0.0")
        return page

    yield over
    config.set_option("server.address", "127.0.0.1")


def test_an_exposed_server_shows_no_events(exposed: App, filled: Path) -> None:
    page = exposed(filled).run()
    assert not page.exception
    assert "This server is open to other machines" in shown_text(page)
    assert not page.dataframe


@pytest.mark.parametrize("query", [{}, {"q": "ada"}, {"ev": "2026-01-01/okta:system_log:1"}])
def test_nobody_sees_events_before_signing_in(
    exposed: App, filled: Path, query: dict[str, str]
) -> None:
    page = exposed(filled)
    page.secrets["auth"] = {"client_id": "x", "cookie_secret": "y"}
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    assert "Sign in to see the audit log" in shown_text(page)
    assert [button.key for button in page.button] == ["sign_in"]
    assert not page.dataframe


def test_bookmarks_of_pages_stay_valid(app: App, filled: Path) -> None:
    page = app(filled).run()
    assert not page.exception
    paths = {each.url_path for each in page.session_state["pages"].values()}
    assert paths == {"", "findings", "entities", "sources", "integrity", "access"}
