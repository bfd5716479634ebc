"""The page Findings: the list, a finding, triage and exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from dashboard import findings
from dashboard.lake import Lake
from tests.dashboard import found
from tests.dashboard.conftest import _note_foreign, free_port, serving
from tests.dashboard.hands import HEAD, button, click, close_menu, grid, settled, shoot
from tests.dashboard.shown import App, shown_text
from tests.dashboard.small_lakes import HOSTILE

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_an_unknown_part_of_the_address_does_no_harm(findings_at: Open, judged: Path) -> None:
    shown = findings_at(judged, show=HOSTILE, level=[HOSTILE], rule=[HOSTILE], range=HOSTILE)
    assert not shown.exception
    assert "The lake has no such finding" in shown_text(findings_at(judged, id=HOSTILE))


@pytest.mark.parametrize("show", ["noise", "coverage", "exceptions"])
def test_the_other_parts_are_shown(findings_at: Open, judged: Path, show: str) -> None:
    shown = findings_at(judged, show=show)
    assert show == "exceptions" or not shown.dataframe[0].value.empty


def test_before_the_first_finding_the_page_says_how_they_come(
    findings_at: Open, filled: Path
) -> None:
    assert "No findings yet" in shown_text(findings_at(filled))


def test_the_navigation_counts_urgent_findings(app: App, judged: Path, filled: Path) -> None:
    shown = app(judged).run()
    n = findings.urgent(Lake(str(judged), {}).cases())
    assert n == 14
    assert shown.session_state["pages"]["findings"].title == f"Findings ({n})"
    assert app(filled).run().session_state["pages"]["findings"].title == "Findings"


@pytest.fixture
def browsed(browser: Browser, copied: Path, foreign: list[str]) -> Iterator[Page]:
    """A page of a server over the lake; it must send no request elsewhere."""
    with serving(copied, copied, free_port()) as server:
        context = browser.new_context(
            base_url=server, viewport={"width": 1440, "height": 900}, timezone_id="Europe/London"
        )
        context.on("request", lambda request: _note_foreign(request.url, server, foreign))
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page
        context.close()
    assert not foreign


@pytest.mark.browser
def test_an_analyst_opens_and_takes_a_finding_of_hostile_text(browsed: Page, copied: Path) -> None:
    page, event = browsed, found.events(copied)[0]
    texts = dict.fromkeys(("title", "entity", "message", "author", "license"), HOSTILE)
    made = found.finding(
        [event],
        0,
        **texts,
        finding_uid="0" * 64,  # first among those of the same time
        url="https://evil.example@attack.example/",
        matched=[{"field": HOSTILE, "value": HOSTILE}],
    )
    found.write(copied, [made])
    page.goto("/findings")
    expect(grid(page, "queue-")).to_be_visible()
    settled(page)
    accessible(page)
    click(page, grid(page, "queue-"), 300, HEAD + 15)
    expect(page.get_by_text("Matched fields")).to_be_visible()
    settled(page)
    shoot(page, "finding-hostile")
    accessible(page)
    expect(page.locator("img[src*='evil'], a[href^='java']")).to_have_count(0)
    expect(page.locator("[data-testid='stMarkdownContainer'] img, .katex")).to_have_count(0)
    hosts = page.evaluate("[...new Set([...document.links].map(link => link.hostname))]")
    assert set(hosts) == {"127.0.0.1", "attack.mitre.org"}
    button(page, "Take").click()
    expect(page.get_by_text("assigned to")).to_be_visible()
    settled(page)
    button(page, "Silence this").click()
    expect(page.get_by_text("It would have covered")).to_be_visible()
    settled(page)
    shoot(page, "finding-silence")
    close_menu(page)
    settled(page)
    click(page, grid(page, "named-"), 200, HEAD + 14)
    page.wait_for_url("**/?*ev=*")
    expect(page.locator(".st-key-event_findings a").first).to_be_visible()
    page.go_back()
    expect(page.get_by_text("Matched fields")).to_be_visible()


def accessible(page: Page) -> None:
    violations = Axe().run(page).response["violations"]
    serious = [one for one in violations if one["impact"] in ("serious", "critical")]
    assert not [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in serious]
