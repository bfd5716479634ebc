"""The page Access."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import (
    settled,
    shoot,
)

ATTACKER = "203.0.113.66"


@pytest.mark.browser
def test_access_is_recorded(page: Page) -> None:
    page.goto("/?q=trace-of-mine")
    expect(page.get_by_text("No events match")).to_be_visible()
    page.goto(f"/entities?kind=source_ip&v={ATTACKER}")
    expect(page.locator(".st-key-facts")).to_be_visible()
    page.goto("/access")
    for text in ("q=trace-of-mine", f"source_ip:{ATTACKER}", "searched", "looked up"):
        expect(page.locator("[role=gridcell]").filter(has_text=text).first).to_be_attached()
    settled(page)
    shoot(page, "access")
