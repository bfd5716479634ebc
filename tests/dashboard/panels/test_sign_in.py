"""Only signed-in, authorised users see events: the real sign-in flow in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from dashboard.lake import Lake
from tests.dashboard import identity
from tests.dashboard.conftest import free_port, serving
from tests.dashboard.hands import grid, settled, shoot
from tests.dashboard.identity import Provider
from tests.dashboard.shown import App, shown_text
from tests.dashboard.small_lakes import HOSTILE

DEEP = "/?range=30d&f=integration%3Aokta&by=actor"
SECRETS = """
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "a long secret that only the tests know, and nobody else"
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{metadata}"

[auditlake]
allowed_groups = ["security"]
allowed_domains = ["acme.example"]
"""


def script(call: str) -> AppTest:
    page = AppTest.from_string(f"from dashboard.panels import sign_in\n{call}", default_timeout=60)
    page.run()
    assert not page.exception
    return page


def test_a_refused_user_is_recorded_once_and_shown_as_text(app: App, tmp_path: Path) -> None:
    app(tmp_path)
    page = script(f"sign_in.refused({HOSTILE!r})")
    page.run()
    assert [text.value for text in page.text] == [HOSTILE]
    rows = Lake(str(tmp_path), {}).access.newest(10)
    assert rows.select("who", "what").rows() == [(HOSTILE, "refused")]
    assert page.button(key="sign_out").label == "Sign out"


def test_an_exposed_server_shows_how_to_close_it() -> None:
    assert "--server.address 127.0.0.1" in shown_text(script("sign_in.exposed()"))


def test_the_address_is_remembered_before_and_restored_after_signing_in() -> None:
    assert "auditlake-requested" in shown_text(script("sign_in.sign_in()"))
    assert "auditlake-requested" not in shown_text(script("sign_in.come_back()"))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with identity.providing() as provider:
        yield provider


@pytest.fixture(scope="module")
def guarded(
    live_lake: Path,
    provider: Provider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The address of a server that admits members of `security` and verified addresses."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    secrets = folder / ".streamlit" / "secrets.toml"
    secrets.parent.mkdir()
    secrets.write_text(
        SECRETS.format(
            port=port,
            client=identity.CLIENT,
            secret=identity.SECRET,
            metadata=provider.metadata_url,
        )
    )
    with serving(live_lake, folder, port) as address:
        yield address


@pytest.fixture
def visitor(browser: Browser, guarded: str) -> Iterator[Page]:
    context = browser.new_context(base_url=guarded, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield page
    context.close()


def sign_in(page: Page, who: str) -> None:
    expect(page.get_by_text("Sign in to see the audit log")).to_be_visible()
    settled(page)
    expect(page.locator("[data-testid='stDataFrame']")).to_have_count(0)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=who).click()


@pytest.mark.browser
def test_a_link_to_a_page_shows_the_sign_in_on_a_new_server(visitor: Page) -> None:
    visitor.goto("/entities?kind=actor&v=theo.vanderberg@larkfield.example")
    sign_in(visitor, "Ada")
    expect(visitor.get_by_text("Actions on this account by others")).to_be_visible()


@pytest.mark.browser
def test_a_member_signs_in_and_returns_to_the_same_view(visitor: Page, live_lake: Path) -> None:
    visitor.goto(DEEP)
    sign_in(visitor, "Ada")
    expect(visitor.get_by_role("button", name="Remove Integration is okta")).to_be_visible()
    expect(grid(visitor)).to_be_visible()
    visitor.wait_for_url(f"**{DEEP}")
    seen = Lake(str(live_lake), {}).access.newest(1).row(0, named=True)
    assert seen["who"].startswith("ada@acme.example (Ada at http://127.0.0.1:")
    assert seen["what"] == "searched"
    visitor.goto("/sources")
    expect(visitor.get_by_role("heading", name="Sources")).to_be_visible()


@pytest.mark.browser
@pytest.mark.parametrize("who", ["Eve", "Mallory"])
def test_an_unauthorised_user_sees_nothing_and_is_recorded(
    visitor: Page, live_lake: Path, who: str
) -> None:
    visitor.goto("/entities?kind=actor&v=theo.vanderberg@larkfield.example")
    sign_in(visitor, who)
    expect(visitor.get_by_text("This account has no access to the audit log")).to_be_visible()
    settled(visitor)
    shoot(visitor, "refused")
    expect(visitor.locator("[data-testid='stDataFrame']")).to_have_count(0)
    expect(visitor.get_by_text("theo.vanderberg")).to_have_count(0)
    seen = Lake(str(live_lake), {}).access.newest(1).row(0, named=True)
    assert seen["who"].startswith(f"{identity.PEOPLE[who]['email']} ({who} at http://127.0.0.1:")
    assert seen["what"] == "refused"
    visitor.get_by_role("button", name="Sign out").click()
    expect(visitor.get_by_text("Sign in to see the audit log")).to_be_visible()
