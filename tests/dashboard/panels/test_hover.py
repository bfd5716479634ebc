"""Shortened texts are whole on hover."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from dashboard.panels import hover
from tests.dashboard.hands import HEAD, ROW, box_of, grid, visit
from tests.dashboard.small_lakes import HOSTILE


def test_hostile_texts_are_passed_as_escaped_text() -> None:
    element = hover.hidden({3: HOSTILE})
    assert element.count("<") == 2
    assert "&lt;img src=" in element
    assert HOSTILE not in element


@pytest.mark.browser
def test_the_whole_texts_of_a_row_are_shown_on_hover(page: Page) -> None:
    visit(page, "/?range=30d&q=file")
    held = page.locator(".whole-texts")
    expect(held).to_be_attached()
    row, text = next(iter(json.loads(held.text_content() or "{}").items()))
    grid(page).scroll_into_view_if_needed()
    box = box_of(page, grid(page))
    page.mouse.move(box["x"] + 300, box["y"] + HEAD + ROW * (int(row) + 0.5), steps=3)
    expect(grid(page)).to_have_attribute("title", text)
    page.mouse.move(box["x"] + 300, box["y"] + HEAD / 2, steps=3)
    expect(grid(page)).to_have_attribute("title", "")
