"""The view between two runs: reload, Back, and visits to other pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from dashboard.lake import Lake
from tests.dashboard.hands import (
    click_row,
    details,
    opened,
    settled,
    shows,
    visit,
)
from tests.dashboard.shown import App, address

SCRIPT = """
import streamlit as st
from dashboard import open_lake, session
from dashboard.queries import Filter

session.follow_address()
wanted = Filter(field="integration", value="okta")
st.button("okta", key="okta", on_click=session.filter_by, args=(wanted,))
without = {"phrase": 'a "b"', "negated": True}
st.button("phrase", key="phrase", on_click=session.search_for, kwargs=without)
st.button("third page", key="third", on_click=session.show_event, args=(None, 3))
st.button("nothing", key="nothing")
st.text(session.view().text)
st.text(session.zone().key)
st.text(str(session.newly_shown(st.session_state.get("grid_key", "events-1"))))
session.record("searched", session.view().text, 5, 7)
session.write_address()
"""


@pytest.fixture
def script(app: App, tmp_path: Path) -> AppTest:
    """A script that has buttons for some changes of the view."""
    app(tmp_path)
    return AppTest.from_string(SCRIPT, default_timeout=60)


def texts(page: AppTest) -> list[str]:
    assert not page.exception
    return [text.value for text in page.text]


def test_a_change_is_written_to_the_url_and_returns_to_the_first_page(script: AppTest) -> None:
    script.query_params["page"] = "2"
    script.run()
    script.button(key="okta").click().run()
    assert address(script) == {"f": ["integration:okta"]}
    script.button(key="third").click().run()
    assert address(script) == {"f": ["integration:okta"], "page": ["3"]}
    script.button(key="phrase").click().run()
    assert address(script)["q"] == ['-"a \\"b\\""']
    assert "page" not in address(script)


@pytest.mark.parametrize(
    "params",
    [
        {"range": "nonsense", "page": "-1", "tz": "Nowhere/Atall"},
        {"ev": "2026-13-99/x"},
        {"by": "event_time", "tab": "__proto__", "held": "<script>"},
    ],
)
def test_invalid_parameters_stay_in_the_url_until_they_are_replaced(
    script: AppTest, params: dict[str, str | list[str]]
) -> None:
    for name, given in params.items():
        script.query_params[name] = given
    assert texts(script.run())[0] == ""
    # The address is left alone until something changes.
    assert set(address(script)) == set(params)
    script.button(key="okta").click().run()
    kept = {name: [text] for name, text in params.items() if name != "page"}
    assert address(script) == {"f": ["integration:okta"], **kept}


def test_a_filter_that_is_not_understood_stays_in_the_url(script: AppTest) -> None:
    script.query_params["f"] = ["no colon", "unknown:x", ":"]
    script.run()
    script.button(key="okta").click().run()
    assert address(script) == {"f": ["integration:okta", "no colon", "unknown:x", ":"]}


def test_an_address_that_the_user_enters_wins_over_the_kept_view(script: AppTest) -> None:
    script.run()
    script.button(key="okta").click().run()
    script.query_params["q"] = "typed"
    del script.query_params["f"]
    assert texts(script.run())[0] == "typed"
    assert address(script) == {"q": ["typed"]}


def test_an_access_is_recorded_once_until_it_changes(script: AppTest, tmp_path: Path) -> None:
    script.run()
    script.button(key="nothing").click().run()
    script.button(key="phrase").click().run()
    rows = Lake(str(tmp_path), {}).access.newest(10)
    assert rows["about"].to_list() == ['-"a \\"b\\""', ""]
    assert rows.select("what", "events", "version").unique().rows() == [("searched", 5, 7)]


def test_a_grid_is_new_on_its_first_run_only(script: AppTest) -> None:
    assert texts(script.run())[2] == "True"
    assert texts(script.button(key="nothing").click().run())[2] == "False"
    script.session_state["grid_key"] = "events-2"
    assert texts(script.run())[2] == "True"


def test_a_time_zone_of_the_url_wins_over_the_browsers(script: AppTest) -> None:
    script.query_params["tz"] = "Asia/Tokyo"
    assert texts(script.run())[1] == "Asia/Tokyo"


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
    expect(page.get_by_role("button", name="Remove Integration is okta")).to_be_visible()
    page.wait_for_url("**/?range=3d*")
