"""Ready searches are chosen in the menu, and findings open their events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard import ready, times
from dashboard.panels import ready as panel
from dashboard.queries import Filter
from dashboard.state import View
from sandbox.company import Company
from tests.dashboard.conftest import ANCHOR
from tests.dashboard.hands import button, cells, click_value, settled, shoot, value_of, visit
from tests.dashboard.shown import App, address, shown_text


def test_a_ready_search_shows_its_purpose_and_limits_above_the_events(
    app: App, filled: Path
) -> None:
    page = app(filled)
    page.query_params["ready"] = "mfa-removed"
    page.query_params["q"] = ready.SEARCHES["mfa-removed"].text
    page.run()
    assert not page.exception
    text = shown_text(page)
    assert "MFA removed or reset" in text
    assert "Cloudflare and Opsgenie do not record this." in text
    page.button(key="ready_close").click().run()
    assert "ready" not in address(page)
    assert "q" in address(page)


def test_findings_of_a_correlation_are_listed_and_open_their_events(
    app: App, live_lake: Path
) -> None:
    page = app(live_lake)
    page.query_params["ready"] = "mass-download"
    page.query_params["q"] = ready.SEARCHES["mass-download"].text
    page.query_params["range"] = "30d"
    page.run()
    assert not page.exception
    found = page.dataframe[0].value
    insider = Company(1).one("Sales").email
    assert insider in set(found["actor"])
    row = found[found["actor"] == insider].iloc[0].to_dict()
    row |= {"first": ANCHOR - timedelta(days=6), "last": ANCHOR - timedelta(days=5)}
    view = panel.opened(View(ready="mass-download", text="x"), row | {"field": None})
    assert view.filters == (Filter(field="actor", value=str(insider)),)
    assert view.range == times.between(
        ANCHOR - timedelta(days=6, minutes=90), ANCHOR - timedelta(days=5, minutes=-90)
    )
    assert (view.ready, view.text) == ("mass-download", "x")


@pytest.mark.browser
def test_a_ready_search_is_two_clicks_away_and_a_finding_a_third(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "Views").click()
    page.locator(".st-key-ready_failed-then-successful button").click()
    page.wait_for_function(f"() => {value_of('ready')} === 'failed-then-successful'")
    victim = str(Company(1).one("Finance").email)
    expect(cells(page, "ready-").filter(has_text=victim)).to_be_attached()
    settled(page)
    expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)
    shoot(page, "ready")
    click_value(page, "ready-", victim, height=28, parameter="range")
    expect(page.get_by_role("button", name=f"Remove Actor is {victim}")).to_be_visible()
