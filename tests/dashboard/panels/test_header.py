"""The top bar: freshness, time range, saved views and export."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect

from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    button,
    click_row,
    details,
    grid,
    newest,
    settled,
    shoot,
    shows,
    visit,
)
from tests.dashboard.shown import App, address, shown_text


def test_a_preset_and_a_time_zone_are_in_the_url(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.button_group(key="preset-7d").set_value("24h").run()
    page.selectbox(key="zone-UTC").set_value("Asia/Tokyo").run()
    assert not page.exception
    assert address(page)["range"] == ["24h"]
    assert address(page)["tz"] == ["Asia/Tokyo"]
    assert "times in Asia/Tokyo" in shown_text(page)


@pytest.mark.browser
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


@pytest.mark.browser
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


@pytest.mark.browser
def test_a_saved_view_can_be_opened_and_removed(page: Page) -> None:
    visit(page, "/?range=30d&f=integration:okta&f=-outcome:success&by=actor")
    button(page, "Views").click()
    page.get_by_label("Name this view").fill("![refused](http://evil.example/x.png)")
    button(page, "Save").click()
    saved = page.locator("[class*='st-key-view_']").get_by_role("button", name="![refused]")
    expect(saved).to_be_visible()
    visit(page)
    button(page, "Views").click()
    saved.click()
    expect(button(page, "Remove Outcome is not success")).to_be_visible()
    page.wait_for_url("**by=actor**")
    settled(page)
    button(page, "Views").click()
    button(page, "Remove ![refused]").click()
    expect(saved).to_have_count(0)


@pytest.mark.browser
def test_the_lake_can_be_searched_as_of_a_time(page: Page, live_lake: Path) -> None:
    # After all that the lake holds, and before the events below, which arrive two seconds late.
    then = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    small_lakes.append(live_lake, small_lakes.events(3, end=datetime.now(UTC), days=0, first=9000))
    events = pl.scan_delta(DeltaTable(live_lake / "events"))
    held = events.filter(pl.col("ingested_at") < then)
    count = held.select(pl.len()).collect().item()
    visit(page, f"/?{urlencode({'range': '30d', 'held': f'{then:%Y-%m-%dT%H:%M:%SZ}'})}")
    expect(page.get_by_text(f"{count:,} events ·")).to_be_visible()
    button(page, "As of").click()
    total = DeltaTable(live_lake / "events").count()
    expect(page.get_by_text(f"{total:,} events ·")).to_be_visible()
    page.goto("/?range=30d&held=2020-01-01T00:00:00Z")
    expect(page.get_by_text("No events match")).to_be_visible()
    shoot(page, "empty")
    button(page, "Clear filters").click()
    expect(grid(page)).to_be_visible()
