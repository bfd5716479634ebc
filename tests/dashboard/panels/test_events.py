"""The table of events."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from tests.dashboard.conftest import EVENTS
from tests.dashboard.hands import (
    HEAD,
    cells,
    click,
    click_header,
    click_row,
    details,
    grid,
    newest,
    opened,
    settled,
    shows,
    visit,
)
from tests.dashboard.shown import App, address, newest_event, shown_text

TIME, INTEGRATION, MENU = 80, 200, 300
"""Places on the header: two columns, and the menu of the second."""


def test_a_page_beyond_the_last_is_the_last(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["page"] = "99"
    page.run()
    assert not page.exception
    assert f"1,001\N{EN DASH}{EVENTS:,} of {EVENTS:,}" in shown_text(page)
    assert len(page.dataframe[-1].value) == EVENTS - 1000


def test_an_open_event_leaves_less_room_for_columns(app: App, filled: Path) -> None:
    day, uid = newest_event(filled)
    page = app(filled).run()
    assert {"source_ip", "target"} <= set(columns(page))
    page.query_params["ev"] = f"{day}/{uid}"
    page.run()
    assert not {"source_ip", "target"} & set(columns(page))


def test_the_browser_gets_the_columns_that_are_shown_alone(app: App, filled: Path) -> None:
    page = app(filled).run()
    assert [*page.dataframe[-1].value.columns] == columns(page)


def test_a_page_is_prepared_again_when_another_is_turned_to(app: App, filled: Path) -> None:
    page = app(filled).run()
    first = page.dataframe[-1].value["time"].to_list()
    for number in ("2", "1"):
        page.query_params["page"] = number
        page.run()
        assert (page.dataframe[-1].value["time"].to_list() == first) is (number == "1")


def columns(page: AppTest) -> list[str]:
    return list(page.dataframe[-1].proto.column_order)


def test_the_newest_event_has_only_an_older_neighbour(app: App, filled: Path) -> None:
    day, uid = newest_event(filled)
    page = app(filled)
    page.query_params["ev"] = f"{day}/{uid}"
    page.run()
    assert page.button(key="step_K").disabled
    page.button(key="step_J").click().run()
    assert address(page)["ev"] != [f"{day}/{uid}"]
    page.button(key="step_K").click().run()
    assert address(page)["ev"] == [f"{day}/{uid}"]


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


def test_the_order_is_in_the_url_and_spans_all_pages(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["sort"] = "-actor"
    page.run()
    assert not page.exception
    shown = page.dataframe[-1].value["actor"].to_list()
    assert shown == sorted(everything(filled), reverse=True)[: len(shown)]
    assert "Actor descending" in shown_text(page)
    assert address(page) == {"sort": ["-actor"]}


def everything(root: Path) -> list[str]:
    events = pl.scan_delta(DeltaTable(root / "events"))
    return events.select("actor_email").collect()["actor_email"].to_list()


@pytest.mark.browser
def test_a_header_click_sorts_the_whole_result_and_opens_nothing(
    page: Page, live_lake: Path
) -> None:
    names = newest(live_lake)
    visit(page, "/?range=30d&page=2")
    click_header(page, INTEGRATION)
    page.wait_for_url("**sort=integration**")
    page.wait_for_url(lambda url: "page=" not in url)
    expect(cells(page, "events-").nth(1)).to_have_text("atlassian")
    settled(page)
    click_row(page, 2)
    uid = opened(page)
    shows(page, uid)
    settled(page)
    click_header(page, INTEGRATION)
    page.wait_for_url("**sort=-integration**")
    expect(cells(page, "events-").nth(1)).to_have_text("opsgenie")
    shows(page, uid)
    settled(page)
    click_header(page, INTEGRATION)
    page.wait_for_url(lambda url: "sort=" not in url)
    shows(page, uid)
    settled(page)
    page.keyboard.press("Escape")
    expect(details(page)).to_have_count(0)
    click_header(page, TIME)
    page.wait_for_url("**sort=time**")
    expect(page.get_by_text("oldest first")).to_be_visible()
    settled(page)
    page.go_back()
    expect(page.get_by_text("newest first")).to_be_visible()
    settled(page)
    click_row(page, 0)
    shows(page, names[0])


@pytest.mark.browser
def test_the_menu_of_a_header_offers_no_sort_of_the_page_alone(page: Page) -> None:
    visit(page)
    click(page, grid(page), MENU, HEAD / 2)
    menu = page.get_by_test_id("stDataFrameColumnMenu")
    expect(menu.get_by_text("Hide column")).to_be_visible()
    expect(menu.get_by_text(re.compile("^(Sort|Statistics)"))).to_be_hidden()
