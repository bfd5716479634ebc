"""The view between two runs: reload, Back, and visits to other pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import (
    click_row,
    details,
    opened,
    settled,
    shows,
    visit,
)


@pytest.mark.browser
def test_reload_and_back_restore_the_view(page: Page, live_lake: Path) -> None:
    visit(page)
    box = page.get_by_placeholder("Search events")
    box.fill("integration:okta")
    box.press("Enter")
    page.wait_for_url("**/?q=integration*")
    settled(page)
    click_row(page, 2)
    page.wait_for_url(lambda url: "ev=" in url)
    uid = opened(page)
    shows(page, uid)
    page.reload()
    shows(page, uid)
    expect(box).to_have_value("integration:okta")
    page.go_back()
    expect(details(page)).to_have_count(0)
    expect(box).to_have_value("integration:okta")
    settled(page)
    click_row(page, 2)
    shows(page, uid)
    settled(page)
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "ev=" not in url)
    page.go_back()
    page.go_back()
    page.go_back()
    expect(box).to_have_value("")


@pytest.mark.browser
def test_the_search_survives_a_visit_to_sources(page: Page) -> None:
    visit(page, "/?f=integration:okta&range=3d")
    page.get_by_role("link", name="Sources").click()
    expect(page.get_by_role("heading", name="Sources")).to_be_visible()
    page.get_by_role("link", name="Explore").click()
    expect(page.get_by_role("button", name="Integration is okta")).to_be_visible()
    page.wait_for_url("**/?range=3d*")
