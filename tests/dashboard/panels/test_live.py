"""New events: counted for the search, and added only where nobody reads."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from playwright.sync_api import Locator, Page, expect
from streamlit.testing.v1 import AppTest

from tests.dashboard import small_lakes
from tests.dashboard.hands import HEAD, ROW, button, cells, click, grid, settled, visit
from tests.dashboard.shown import App, shown_text


def append(root: Path, n: int, first: int) -> None:
    small_lakes.append(root, small_lakes.events(n, end=datetime.now(UTC), days=0, first=first))


SCRIPT = """
import streamlit as st
from dashboard import open_lake, session
from dashboard.panels import live

session.follow_address()
if "snapshot" not in st.session_state:
    st.session_state["snapshot"] = open_lake.configured().look()
live.show(st.session_state["snapshot"])
"""


def test_new_events_are_announced_only_if_they_match(app: App, tmp_path: Path) -> None:
    """The script keeps the version of its first run, as a page does that nobody reloads."""
    append(tmp_path, 20, 0)
    app(tmp_path)
    page = AppTest.from_string(SCRIPT, default_timeout=60)
    page.query_params["q"] = "event_id:00000500"
    page.run()
    assert "lake v0 ·" in shown_text(page)
    append(tmp_path, 1, 400)
    page.run()
    assert "lake v1 ·" in shown_text(page)
    assert [each.label for each in page.button] == []
    append(tmp_path, 2, 500)
    page.run()
    assert [each.label for each in page.button] == ["1 new event"]
    DeltaTable(tmp_path / "events").optimize.compact()
    page.run()
    assert [each.label for each in page.button] == ["Newer version"]
    page.query_params["q"] = "event_id:("
    page.run()
    assert not page.exception
    assert [each.label for each in page.button] == ["Newer version"]


def test_a_lake_that_vanishes_is_not_called_up_to_date(app: App, tmp_path: Path) -> None:
    append(tmp_path, 20, 0)
    app(tmp_path)
    page = AppTest.from_string(SCRIPT, default_timeout=60).run()
    log = tmp_path / "events" / "_delta_log" / f"{0:020}.json"
    log.write_text("no log")
    assert "The lake cannot be read" in shown_text(page.run())
    shutil.rmtree(tmp_path / "events")
    assert "The lake has vanished" in shown_text(page.run())
    assert "ago" not in shown_text(page)


def scroller(page: Page) -> Locator:
    return grid(page).locator(".dvn-scroller")


@pytest.mark.browser
def test_live_adds_events_at_the_top_but_not_while_a_user_reads_further_down(
    page: Page, live_lake: Path
) -> None:
    visit(page, "/?range=30d")
    page.locator(".st-key-live label").click()
    expect(page.locator(".live-dot")).to_be_visible()
    append(live_lake, 1, 11_000)
    total = DeltaTable(live_lake / "events").count()
    expect(page.get_by_text(f"{total:,} events ·")).to_be_visible()
    settled(page)
    first = cells(page, "events-").first
    newest = first.inner_text()
    scroller(page).evaluate("one => { one.scrollTop = 1500; }")
    # The table names its visible cells a moment after it has moved.
    expect(first).not_to_have_text(newest)
    before, text = scroller(page).evaluate("one => one.scrollTop"), first.inner_text()
    append(live_lake, 12, 11_100)
    expect(button(page, "12 new events")).to_be_visible()
    page.evaluate("auditlakeFollow()")
    settled(page)
    expect(button(page, "12 new events")).to_be_visible()
    expect(first).to_have_text(text)
    assert scroller(page).evaluate("one => one.scrollTop") == before
    scroller(page).evaluate("one => { one.scrollTop = 0; }")
    expect(page.get_by_text(f"{total + 12:,} events ·")).to_be_visible()
    expect(button(page, "new events")).to_have_count(0)
    expect(first).not_to_have_text(text)


@pytest.mark.browser
def test_a_lake_that_vanishes_is_reported_in_place(page: Page, live_lake: Path) -> None:
    visit(page)
    page.locator(".st-key-live label").click()
    expect(page.locator(".live-dot")).to_be_visible()
    settled(page)
    events = (live_lake / "events").rename(live_lake / "events.away")
    try:
        expect(page.get_by_text("The lake has vanished")).to_be_visible()
        expect(grid(page)).to_be_visible()
        click(page, grid(page), 400, HEAD + 4 * ROW)
        expect(page.get_by_text("The lake cannot be read")).to_be_visible()
        settled(page)
        button(page, "Refresh").click()
        expect(page.get_by_text("The table of events has vanished")).to_be_visible()
    finally:
        events.rename(live_lake / "events")
    settled(page)
    button(page, "Refresh").click()
    expect(grid(page)).to_be_visible()
