"""The hours of a timeline open their events."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import settled, shoot, value_of


@pytest.mark.browser
def test_an_hour_of_the_timeline_opens_its_events(page: Page) -> None:
    page.goto("/entities?v=theo.vanderberg%40larkfield.example")
    chart = page.locator(".st-key-timeline [data-testid='stVegaLiteChart']")
    expect(chart).to_be_visible()
    settled(page)
    cell = chart.locator("g.mark-rect path").first
    cell.click(force=True)
    page.wait_for_function(f"() => {value_of('range')}.includes('..')")
    settled(page)
    shoot(page, "timeline")
    while "/entities" in page.url:
        before = page.url
        chart.locator("g.mark-rect path").first.click(force=True)
        page.wait_for_function("before => location.href !== before", arg=before)
        settled(page)
    expect(page.get_by_role("button", name="Remove Actor is theo")).to_be_visible()
    assert "integration" in page.url
