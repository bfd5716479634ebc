"""The menus of filters."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.dashboard.hands import button, close_menu, settled, visit


def chip(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def menu(page: Page) -> Locator:
    return page.get_by_test_id("stPopoverBody")


def value(page: Page, name: str) -> Locator:
    """Return the tick of a value in the open menu; its name ends with its number of events."""
    return menu(page).get_by_role("checkbox", name=re.compile(rf"^{re.escape(name)} [\d,]+$"))


@pytest.mark.browser
def test_several_values_are_picked_without_closing_the_menu(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "Integration").first.click()
    # The second pick does not wait for the answer to the first.
    value(page, "okta").check()
    value(page, "opsgenie").check()
    expect(chip(page, "Integration is okta")).to_be_visible()
    expect(chip(page, "Integration is opsgenie")).to_be_visible()
    settled(page)
    expect(value(page, "okta")).to_be_checked()
    expect(value(page, "opsgenie")).to_be_checked()
    value(page, "okta").uncheck()
    expect(chip(page, "Integration is okta")).to_have_count(0)
    settled(page)
    expect(value(page, "opsgenie")).to_be_checked()
    close_menu(page)
    expect(chip(page, "Integration is opsgenie")).to_be_visible()
    button(page, "Remove Integration is opsgenie").click()
    expect(chip(page, "Integration is opsgenie")).to_have_count(0)
    settled(page)
    button(page, "Integration").first.click()
    expect(value(page, "opsgenie")).not_to_be_checked()


@pytest.mark.browser
def test_a_list_is_searched_sorted_and_used_with_the_keyboard(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "Action type").first.click()
    expect(value(page, "Logon")).to_be_attached()
    page.get_by_placeholder("Find in this list").fill("LOGO")
    names = menu(page).locator("label > span:nth-child(2)")
    expect(names.filter(has_not_text=re.compile("logo", re.IGNORECASE))).to_have_count(0)
    settled(page)
    by_events = names.all_text_contents()
    assert len(by_events) > 1
    # Up, down, and back to the order by events.
    by_name = menu(page).get_by_role("button", name="Action type")
    by_name.click()
    assert names.all_text_contents() == sorted(by_events)
    by_name.click()
    assert names.all_text_contents() == sorted(by_events, reverse=True)
    by_name.click()
    assert names.all_text_contents() == by_events
    page.get_by_role("radio", name="is not").click()
    settled(page)
    boxes = menu(page).get_by_role("checkbox")
    menu(page).get_by_role("button", name="Events").focus()
    page.keyboard.press("Tab")
    expect(boxes.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(boxes.nth(1)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    expect(chip(page, f"Action type is not {by_events[-1]}")).to_be_visible()
    settled(page)
    expect(boxes.last).to_be_focused()


@pytest.mark.browser
def test_any_column_can_be_filtered_by(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "More").click()
    column, first = menu(page).get_by_role("combobox"), menu(page).get_by_role("checkbox").first
    column.fill("City")
    page.get_by_role("option", name="City", exact=True).click()
    expect(menu(page).get_by_role("group", name="City")).to_be_visible()
    settled(page)
    first.check()
    expect(page.get_by_role("button", name=re.compile("^City is"))).to_be_visible()
    # Targets of a filtered search are counted by the page, with the menu still open.
    column.fill("Target")
    page.get_by_role("option", name="Target", exact=True).click()
    expect(menu(page).get_by_role("group", name="Target")).to_be_visible()
    settled(page)
    first.check()
    expect(page.get_by_role("button", name=re.compile("^Target is"))).to_be_visible()
