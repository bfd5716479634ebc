"""The menus of filters."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from dashboard.panels import facets
from tests.dashboard.hands import (
    box_of,
    button,
    cells,
    click_place,
    click_value,
    grid,
    row_of,
    settled,
    visit,
)

ROW = 26


@pytest.mark.parametrize(
    ("rows", "cells", "expected"),
    [
        ([1, 3], [], [1, 3]),
        ([1], [[4, "value"]], [1, 4]),
        ([1], [[1, "value"]], []),
        ([1, 2], [[4, "value"]], [1, 2]),
        ([], [[4, "value"]], []),
    ],
)
def test_a_click_on_a_cell_counts_only_if_no_tick_changed(
    rows: list[int], cells: list[list[object]], expected: list[int]
) -> None:
    assert facets._ticked({"rows": rows, "cells": cells}, [1]) == expected


def chip(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


@pytest.mark.browser
def test_several_values_are_picked_without_closing_the_menu(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "Integration").first.click()
    expect(cells(page, "facet-integration").filter(has_text="okta")).to_be_attached()
    # The counts too are within the menu.
    assert box_of(page, grid(page, "facet-integration"))["width"] > 330
    settled(page)
    click_value(page, "facet-integration", "okta", height=ROW, parameter="f")
    settled(page)
    click_value(page, "facet-integration", "opsgenie", height=ROW, parameter="f")
    settled(page)
    expect(chip(page, "Integration is okta")).to_be_visible()
    expect(chip(page, "Integration is opsgenie")).to_be_visible()
    # The tick is cleared by another click.
    click_value(page, "facet-integration", "okta", height=ROW, parameter="f")
    expect(chip(page, "Integration is okta")).to_have_count(0)
    expect(grid(page, "facet-integration")).to_be_visible()
    settled(page)
    page.keyboard.press("Escape")
    expect(grid(page, "facet-integration")).to_have_count(0)
    expect(chip(page, "Integration is opsgenie")).to_be_visible()


@pytest.mark.browser
def test_a_value_is_found_in_the_list_and_excluded(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "Action type").first.click()
    page.get_by_placeholder("Find in this list").fill("LOGO")
    expect(cells(page, "facet-action_type").filter(has_text="Download")).to_have_count(0)
    expect(cells(page, "facet-action_type").filter(has_text="Logon")).to_be_attached()
    settled(page)
    page.get_by_role("radio", name="is not").click()
    settled(page)
    click_place(
        page, "facet-action_type", row_of(page, "facet-action_type", "Logon"),
        height=ROW, parameter="f",
    )  # fmt: skip
    expect(chip(page, "Action type is not Logon")).to_be_visible()


@pytest.mark.browser
def test_any_column_can_be_filtered_by(page: Page) -> None:
    visit(page, "/?range=30d")
    button(page, "More").click()
    page.get_by_test_id("stPopoverBody").get_by_role("combobox").fill("City")
    page.get_by_role("option", name="City", exact=True).click()
    expect(grid(page, "facet-city")).to_be_visible()
    settled(page)
    click_place(page, "facet-city", 0, height=ROW, parameter="f")
    expect(page.get_by_role("button", name=re.compile("^City is"))).to_be_visible()
    # Targets of a filtered search are counted by the page, with the menu still open.
    page.get_by_test_id("stPopoverBody").get_by_role("combobox").fill("Target")
    page.get_by_role("option", name="Target", exact=True).click()
    expect(grid(page, "facet-target")).to_be_visible()
    settled(page)
    click_place(page, "facet-target", 0, height=ROW, parameter="f")
    expect(page.get_by_role("button", name=re.compile("^Target is"))).to_be_visible()
