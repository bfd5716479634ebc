"""The table of events."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect

from tests.dashboard.hands import (
    click_row,
    details,
    newest,
    settled,
    shows,
    visit,
)


@pytest.mark.browser
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


@pytest.mark.browser
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
