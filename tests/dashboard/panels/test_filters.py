"""The search box, the filters and their chips."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import (
    click_row,
    details,
    settled,
    visit,
)
from tests.dashboard.shown import App, address, chips


def test_a_search_is_in_the_url_and_narrows_the_result(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.text_input(key="search").set_value("actor:ada* -outcome:failure").run()
    assert not page.exception
    assert address(page)["q"] == ["actor:ada* -outcome:failure"]
    shown = page.dataframe[-1].value
    assert set(shown["actor"]) == {"ada@acme.example"}


@pytest.mark.parametrize(
    ("params", "reason", "pointer"),
    [
        ({"q": "actor:(ada"}, "a bracket is never closed", "actor:(ada\n          ^"),
        ({"q": "ip:1.2.3.4 acter:ada"}, "use actor", "ip:1.2.3.4 acter:ada\n           ^"),
        ({"f": ["integration:okta", "-acter:ada"]}, "use actor:value", "-acter:ada\n ^"),
        ({"f": ["[x](javascript:1)"]}, "use field:value", "[x](javascript:1)\n^"),
        ({"range": "7x"}, "use 7d, 90m or", "range=7x\n      ^"),
    ],
)
def test_a_search_that_is_not_understood_is_refused_at_the_place(
    app: App, filled: Path, params: dict[str, str | list[str]], reason: str, pointer: str
) -> None:
    page = app(filled)
    for name, given in params.items():
        page.query_params[name] = given
    page.run()
    assert not page.exception
    assert "not understood" in page.error[0].value
    assert reason in page.text[-1].value
    assert page.code[0].value == pointer
    assert not page.dataframe
    page.button(key="clear").click().run()
    assert address(page) == {}
    assert not page.error
    assert page.dataframe


def test_a_parameter_that_selects_no_events_is_named_above_the_result(
    app: App, filled: Path
) -> None:
    page = app(filled)
    page.query_params["by"] = "[colour](javascript:1)"
    page.run()
    assert "not understood" in page.warning[0].value
    assert page.text[0].value.startswith("by=[colour](javascript:1) in this link")
    assert page.dataframe
    assert address(page)["by"] == ["[colour](javascript:1)"]
    page.button_group(key="by").set_value("outcome").run()
    assert not page.warning
    assert address(page) == {"by": ["outcome"]}


def test_a_url_restores_filters_as_removable_chips(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["f"] = ["integration:okta", "-outcome:success"]
    page.run()
    assert chips(page) == ["Integration is okta", "Outcome is not success"]
    page.button(key="chip_1").click().run()
    assert address(page)["f"] == ["integration:okta"]
    page.button(key="clear").click().run()
    assert address(page) == {}


@pytest.mark.browser
def test_filters_show_counts_and_are_removed_by_their_chips(page: Page) -> None:
    visit(page)
    page.get_by_role("button", name="Integration", exact=True).click()
    page.get_by_role("checkbox", name=re.compile("^okta ")).check()
    chip = page.get_by_role("button", name="Remove Integration is okta")
    expect(chip).to_be_visible()
    settled(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("radio", name="is not")).to_have_count(0)
    click_row(page, 0)
    settled(page)
    page.get_by_role("button", name="Exclude this Actor", exact=True).click()
    exclusion = page.get_by_role("button", name=re.compile("^Remove Actor is not"))
    expect(exclusion).to_be_visible()
    expect(details(page)).to_be_visible()
    settled(page)
    exclusion.click()
    expect(exclusion).to_have_count(0)
    settled(page)
    chip.click()
    expect(chip).to_have_count(0)
