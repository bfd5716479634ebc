"""User journeys in Chromium against a real server; each also checks that no request leaves it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import BrowserContext, Page, expect

from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    box_of,
    chart,
    choose,
    click_row,
    details,
    grid,
    newest,
    opened,
    settled,
    shoot,
    shows,
    turn_to,
    visit,
)

pytestmark = pytest.mark.browser


def test_a_click_opens_a_row_and_keys_move_to_its_neighbours(page: Page, live_lake: Path) -> None:
    names = newest(live_lake)
    visit(page)
    click_row(page, 3)
    shows(page, names[3])
    settled(page)
    page.keyboard.press("j")
    shows(page, names[4])
    settled(page)
    page.keyboard.press("k")
    shows(page, names[3])
    click_row(page, 7, x=120)
    shows(page, names[7])
    settled(page)
    page.keyboard.press("Escape")
    expect(details(page)).to_have_count(0)
    page.wait_for_url(lambda url: "ev=" not in url)
    page.keyboard.press("/")
    expect(page.get_by_placeholder("Search events")).to_be_focused()


def test_the_keys_cross_page_boundaries(page: Page, live_lake: Path) -> None:
    names = newest(live_lake, 501)
    days = {uid: day for day, uid in dated(live_lake)}
    visit(page, f"/?range=30d&ev={days[names[499]]}/{quote(names[499])}")
    shows(page, names[499])
    settled(page)
    page.keyboard.press("j")
    shows(page, names[500])
    page.wait_for_url("**page=2**")
    settled(page)
    page.keyboard.press("k")
    shows(page, names[499])


def dated(root: Path) -> list[tuple[str, str]]:
    events = pl.scan_delta(DeltaTable(root / "events"))
    return events.select(pl.col("date").cast(pl.String), "event_uid").collect().rows()


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


def test_the_tooltip_lists_every_series(page: Page) -> None:
    visit(page, "/?by=integration")
    chart(page).locator("path[aria-label*='Events:']").last.hover()
    tooltip = page.locator("#vg-tooltip-element")
    for word in ("Time", "Events", "okta", "google_workspace", "entra_id", "atlassian"):
        expect(tooltip).to_contain_text(word)


def test_filters_show_counts_and_are_removed_by_their_chips(page: Page) -> None:
    visit(page)
    page.get_by_role("button", name="Integration", exact=True).click()
    page.get_by_placeholder(re.compile(r"\d+ values")).click()
    page.get_by_role("option", name=re.compile(r"okta\s+·\s+\d+")).click()
    chip = page.get_by_role("button", name="Integration is okta")
    expect(chip).to_be_visible()
    settled(page)
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_role("radio", name="is not")).to_have_count(0)
    click_row(page, 0)
    settled(page)
    page.get_by_role("button", name="Exclude this Actor", exact=True).click()
    exclusion = page.get_by_role("button", name=re.compile("^Actor is not"))
    expect(exclusion).to_be_visible()
    expect(details(page)).to_be_visible()
    settled(page)
    exclusion.click()
    expect(exclusion).to_have_count(0)
    settled(page)
    chip.click()
    expect(chip).to_have_count(0)


def test_an_open_event_stays_open_while_the_lake_grows(page: Page, live_lake: Path) -> None:
    names = newest(live_lake)
    visit(page, "/?range=30d")
    page.locator(".st-key-live label").click()
    expect(page.locator(".live-dot")).to_be_visible()
    click_row(page, 1)
    shows(page, names[1])
    small_lakes.append(live_lake, small_lakes.events(2, end=datetime.now(UTC), days=0, first=5000))
    announced = page.get_by_role("button", name="2 new events")
    expect(announced).to_be_visible()
    shows(page, names[1])
    settled(page)
    announced.click()
    expect(announced).to_have_count(0)
    settled(page)
    shows(page, names[1])
    page.keyboard.press("k")
    shows(page, newest(live_lake)[2])
    settled(page)
    page.keyboard.press("Escape")
    expect(details(page)).to_have_count(0)
    small_lakes.append(live_lake, small_lakes.events(1, end=datetime.now(UTC), days=0, first=6000))
    total = DeltaTable(live_lake / "events").count()
    expect(page.get_by_text(f"{total:,} events ·")).to_be_visible()
    settled(page)
    click_row(page, 0)
    shows(page, newest(live_lake)[0])


def test_an_export_contains_the_whole_result(page: Page, tmp_path: Path, live_lake: Path) -> None:
    visit(page, "/?range=30d&f=integration:okta")
    events = pl.scan_delta(DeltaTable(live_lake / "events"))
    expected = events.filter(integration="okta").select(pl.len()).collect().item()
    page.get_by_role("button", name="Export").click()
    for label, read in (("CSV", pl.read_csv), ("Parquet", pl.read_parquet)):
        with page.expect_download() as download:
            page.get_by_role("link", name=label).click()
        file = tmp_path / label
        download.value.save_as(file)
        rows = read(file)
        assert rows.height == expected
        assert set(rows["integration"]) == {"okta"}


def test_hostile_events_are_shown_as_text_and_send_no_requests(
    page: Page, live_lake: Path, foreign: list[str]
) -> None:
    spoken: list[str] = []
    page.on("dialog", lambda dialog: (spoken.append(dialog.message), dialog.dismiss())[0])
    page.on("pageerror", lambda error: spoken.append(str(error)))
    small_lakes.append(live_lake, [small_lakes.hostile(7000, datetime.now(UTC))])
    visit(page, "/?q=evil.example")
    click_row(page, 0)
    expect(details(page).get_by_text("![x](http://evil.example/beacon.png)").first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Only this Actor", exact=True).click()
    expect(page.get_by_role("button", name="Actor is =cmd")).to_contain_text("![x](http://evil")
    settled(page)
    page.get_by_role("button", name="Exclude this User agent", exact=True).click()
    expect(page.get_by_text("No events match")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="User agent is not").click()
    expect(details(page)).to_be_visible()
    settled(page)
    turn_to(page, "Raw JSON", details(page).get_by_test_id("stCode"))
    turn_to(page, "Around this event", grid(page, "around-"))
    turn_to(page, "Details", details(page).get_by_text("Ingestion"))
    for group in ("Action type", "Actor", "Activity"):
        choose(page, group, "by")
        chart(page).hover()
    for popover in ("Actor · 1", "Activity", "More"):
        page.get_by_role("button", name=popover, exact=True).click()
        expect(page.get_by_role("radio", name="is not").first).to_be_visible()
        settled(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("radio", name="is not")).to_have_count(0)
    shoot(page, "hostile")
    expect(page.locator("img[src*='evil'], a[href^='javascript']")).to_have_count(0)
    assert page.evaluate("[...document.links].every(link => link.origin === location.origin)")
    expect(page.locator("[data-testid='stMarkdownContainer'] img, .katex")).to_have_count(0)
    assert not spoken
    assert not foreign


def test_the_search_survives_a_visit_to_sources(page: Page) -> None:
    visit(page, "/?f=integration:okta&range=3d")
    page.get_by_role("link", name="Sources").click()
    expect(page.get_by_role("heading", name="Sources")).to_be_visible()
    page.get_by_role("link", name="Explore").click()
    expect(page.get_by_role("button", name="Integration is okta")).to_be_visible()
    page.wait_for_url("**/?range=3d*")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_render_in_both_colour_schemes(context: BrowserContext, scheme: str) -> None:
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    visit(page, "/?by=integration")
    shoot(page, f"explore-{scheme}")
    click_row(page, 4)
    expect(details(page)).to_be_visible()
    expect(details(page).get_by_text("matches the record")).to_be_attached()
    shoot(page, f"details-{scheme}")
    page.goto("/sources")
    expect(page.locator('[data-testid="stDataFrame"]').first).to_be_visible()
    settled(page)
    shoot(page, f"sources-{scheme}")
