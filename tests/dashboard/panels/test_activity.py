"""The activity graph."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard.coverage import Gap
from dashboard.panels import activity
from dashboard.queries import Query
from tests.dashboard.hands import (
    box_of,
    chart,
    settled,
    visit,
)
from tests.dashboard.shown import App, address


def test_grouping_is_in_the_url(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.button_group(key="by").set_value("actor").run()
    assert not page.exception
    assert address(page)["by"] == ["actor"]


@pytest.mark.parametrize("seconds", [1, 86_400])
def test_a_gap_of_any_length_is_drawn(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    def covered(query: Query) -> activity.Coverage:
        until = query.since + timedelta(seconds=seconds)
        gap = Gap(since=query.since, until=until, log=("okta", "system_log"), reason="failed")
        return activity.Coverage(blind=(gap,), streams=2, covering=1)

    monkeypatch.setattr(activity, "coverage_of", covered)
    assert not app(filled).run().exception


def test_events_can_be_grouped_by_any_column(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.selectbox(key="by_other").set_value("city").run()
    assert not page.exception
    assert address(page)["by"] == ["city"]
    assert page.button_group(key="by").value == "city"
    assert page.dataframe[0].value["value"].to_list() == ["London"]
    page.button_group(key="by").set_value("actor").run()
    assert address(page)["by"] == ["actor"]


@pytest.mark.browser
def test_dragging_over_the_graph_zooms_and_back_zooms_out(page: Page) -> None:
    visit(page)
    box = box_of(page, chart(page))
    page.mouse.move(box["x"] + 400, box["y"] + 80, steps=4)
    page.mouse.down()
    page.mouse.move(box["x"] + 600, box["y"] + 90, steps=8)
    page.mouse.up()
    page.wait_for_url("**/?range=*")
    settled(page)
    expect(page.get_by_role("button", name="Europe/London")).not_to_contain_text("Last 7 days")
    page.go_back()
    expect(page.get_by_role("button", name="Last 7 days")).to_be_visible()


@pytest.mark.browser
def test_the_tooltip_lists_every_series(page: Page) -> None:
    visit(page, "/?by=integration")
    # The last bucket has just begun, and may be too narrow to point at.
    chart(page).locator("path[aria-label*='Events:']").nth(-2).hover()
    tooltip = page.locator("#vg-tooltip-element")
    for word in ("Time", "Events", "okta", "google_workspace", "entra_id", "atlassian"):
        expect(tooltip).to_contain_text(word)
