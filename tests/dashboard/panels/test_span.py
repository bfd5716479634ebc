"""The time range: typed, stepped, chosen again and linked."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from dashboard import times
from tests.dashboard.hands import button, click_row, details, opened, settled, visit
from tests.dashboard.shown import App, address, shown_text

NOVEMBER = "2026-11-17T08:00:00Z..2026-11-17T10:30:00Z"


def test_a_typed_time_is_applied_and_a_wrong_one_refused(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.text_input(key="typed_time_text").set_value("31 Feb")
    page.button(key="FormSubmitter:typed_time-Apply").click().run()
    assert address(page) == {}
    assert "is no day of the calendar" in shown_text(page)
    assert page.text_input(key="typed_time_text").value == "31 Feb"
    page.text_input(key="typed_time_text").set_value("17 Nov 2026 08:00 to 10:30")
    page.button(key="FormSubmitter:typed_time-Apply").click().run()
    assert not page.exception
    assert address(page)["range"] == [NOVEMBER]
    assert "calendar" not in shown_text(page)


def test_steps_lead_to_the_previous_and_the_next_range(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["range"] = NOVEMBER
    page.run()
    page.button(key="span_left").click().run()
    assert address(page)["range"] == ["2026-11-17T05:30:00Z..2026-11-17T08:00:00Z"]
    page.button(key="span_right").click().run()
    assert address(page)["range"] == [NOVEMBER]
    page = app(filled).run()
    assert page.button(key="span_right").disabled


def test_ranges_that_were_used_can_be_chosen_again(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["range"] = NOVEMBER
    page.run()
    page.button(key="span_left").click().run()
    earlier = address(page)["range"][0]
    page.button_group(key=f"recent-{earlier}").set_value(NOVEMBER).run()
    assert address(page)["range"] == [NOVEMBER]
    page.button_group(key=f"preset-{NOVEMBER}").set_value("24h").run()
    assert address(page)["range"] == ["24h"]
    assert page.button_group(key="recent-24h").options == [
        times.label(times.parse(text) or pytest.fail(), times.zone("UTC"))
        for text in (NOVEMBER, earlier)
    ]


def test_whole_days_are_chosen_without_apply(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["range"] = NOVEMBER
    page.query_params["tz"] = "Asia/Tokyo"
    page.run()
    days = page.date_input(key=f"days-{NOVEMBER}")
    assert [f"{day}" for day in days.value] == ["2026-11-17", "2026-11-17"]
    days.set_value(days.value[:1]).run()
    assert address(page)["range"] == [NOVEMBER]
    days = page.date_input(key=f"days-{NOVEMBER}")
    days.set_value((days.value[0], days.value[0])).run()
    assert address(page)["range"] == ["2026-11-16T15:00:00Z..2026-11-17T15:00:00Z"]


@pytest.mark.browser
def test_escape_closes_the_menu_and_keeps_the_text_and_the_event(page: Page) -> None:
    visit(page)
    click_row(page, 2)
    expect(details(page)).to_be_visible()
    uid = opened(page)
    settled(page)
    menu, box = button(page, "Last 7 days"), page.get_by_label("Time", exact=True)
    menu.click()
    box.fill("last 90")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(details(page)).to_be_visible()
    assert opened(page) == uid
    menu.click()
    expect(box).to_have_value("last 90")
    box.fill("last 90m")
    # A click needs the button to be uncovered.
    button(page, "Apply").click()
    expect(button(page, "Last 90 minutes")).to_be_visible()
    expect(box).to_have_count(0)
    page.wait_for_url("**range=90m**")


@pytest.mark.browser
def test_a_link_has_the_relative_or_the_fixed_time(page: Page) -> None:
    visit(page, "/?range=3d&f=integration:okta")
    button(page, "Link").click()
    links = page.get_by_test_id("stPopoverBody").get_by_test_id("stCode")
    expect(links).to_have_count(2)
    given = [parse_qs(urlsplit(link.inner_text().strip()).query) for link in links.all()]
    assert given[0] == {"range": ["3d"], "f": ["integration:okta"]}
    assert given[1]["f"] == ["integration:okta"]
    assert ".." in given[1]["range"][0]
    page.goto(links.nth(1).inner_text().strip())
    expect(button(page, "Remove Integration is okta")).to_be_visible()
    visit(page)
    button(page, "Link").click()
    expect(links).to_have_count(2)
    assert "?" not in links.first.inner_text()
