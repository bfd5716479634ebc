"""Each part of a search is edited, inverted, switched off and removed by its chip."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from dashboard import state
from dashboard.panels import chips
from dashboard.queries import Filter
from dashboard.state import View
from tests.dashboard.hands import settled, shoot, value_of, visit
from tests.dashboard.shown import App, address
from tests.dashboard.shown import chips as labels

SEARCH = 'actor:ada* AND -outcome:failure "signed in"'
OKTA = Filter(field="integration", value="okta")


@pytest.fixture
def shown_page(app: App, filled: Path) -> AppTest:
    page = app(filled)
    page.query_params["f"] = ["integration:okta"]
    page.query_params["q"] = SEARCH
    return page.run()


def test_every_filter_and_term_has_a_chip(shown_page: AppTest) -> None:
    assert not shown_page.exception
    shown = [re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), one) for one in labels(shown_page)]
    assert shown == [
        "Integration is okta",
        "actor:ada*",
        "-outcome:failure",
        '"signed in"',
    ]


def test_a_chip_is_removed_inverted_and_edited_alone(shown_page: AppTest) -> None:
    shown_page.button(key="chip_3").click().run()
    assert address(shown_page)["q"] == ["actor:ada* -outcome:failure"]
    shown_page.button(key="chipinvert_2").click().run()
    assert address(shown_page)["q"] == ["actor:ada* outcome:failure"]
    edit = next(one for one in shown_page.text_input if (one.key or "").startswith("chipedit_1_"))
    edit.set_value("actor:ada* OR actor:grace*").run()
    assert address(shown_page)["q"] == ["(actor:ada* OR actor:grace*) outcome:failure"]
    shown_page.button(key="chipinvert_0").click().run()
    assert address(shown_page)["f"] == ["-integration:okta"]
    assert not shown_page.exception


def test_what_is_switched_off_stays_in_the_link_and_selects_nothing(shown_page: AppTest) -> None:
    shown_page.button(key="chipswitch_1").click().run()
    shown_page.button(key="chipswitch_0").click().run()
    assert address(shown_page) == {
        "q": ['-outcome:failure "signed in"'],
        "off": ["actor:ada*"],
        "foff": ["integration:okta"],
    }
    assert len(set(shown_page.dataframe[-1].value["actor"])) > 1
    shown_page.button(key="chipswitch_2").click().run()
    shown_page.button(key="chipswitch_3").click().run()
    assert address(shown_page) == {
        "f": ["integration:okta"],
        "q": ['-outcome:failure "signed in" actor:ada*'],
    }


def test_a_term_that_is_edited_into_nonsense_is_refused_at_the_place(shown_page: AppTest) -> None:
    edit = next(one for one in shown_page.text_input if (one.key or "").startswith("chipedit_1_"))
    edit.set_value("acter:ada").run()
    assert "use actor" in shown_page.text[-1].value
    assert shown_page.code[0].value.startswith("acter:ada")


@pytest.mark.parametrize("wanted", [OKTA, Filter(field="actor", value="", negated=True)])
def test_a_filter_is_the_same_after_two_inversions_or_switches(wanted: Filter) -> None:
    view = View(filters=(wanted,), text="ada")
    for change in ("invert", "switch"):
        once = getattr(chips.chips(view)[0], change)(view)
        assert once != view
        place = [chip.text for chip in chips.chips(once)].index(wanted.value)
        assert getattr(chips.chips(once)[place], change)(once) == view
        assert state.from_params(state.params(once)) == once


@pytest.mark.browser
def test_chips_are_used_with_the_mouse(page: Page) -> None:
    visit(page, "/?q=-outcome:failure+actor:*&f=integration:okta")
    page.get_by_role("button", name="-outcome:failure", exact=True).click()
    page.get_by_role("button", name="Switch off").filter(visible=True).click()
    page.wait_for_function(f"() => {value_of('off')} === '-outcome:failure'")
    settled(page)
    page.get_by_role("button", name="actor:*", exact=True).click()
    expect(page.get_by_label("Edit").filter(visible=True)).to_have_value("actor:*")
    shoot(page, "chips")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove Integration is okta").click()
    page.wait_for_function(f"() => {value_of('f')} === ''")
