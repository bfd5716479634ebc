"""Every page fits narrow screens: nothing is cut, and nothing scrolls sideways."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import button, close_menu, settled, shoot

pytestmark = pytest.mark.browser
PAGES = {
    "explore": "/?q=-outcome:failure&f=integration:okta",
    "entities": "/entities?v=theo.vanderberg%40larkfield.example",
    "findings": "/findings?show=coverage",
    "sources": "/sources",
    "integrity": "/integrity",
}
# Texts wider than their boxes, and elements that reach beyond the window.
CUT = """() => [...document.querySelectorAll(".stMainBlockContainer *")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.width || !one.checkVisibility() || one.closest("canvas, svg, [role=grid]")) return false;
  const clipped = one.matches(".quiet, [data-testid=stText], button p")
    && one.scrollWidth > one.clientWidth + 1 && !one.matches("button p");
  return clipped || (box.right > innerWidth + 1 && !one.closest("[data-testid=stDataFrame]"));
}).map((one) => one.className || one.tagName).slice(0, 5)"""


@pytest.mark.parametrize("width", [390, 1024])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_the_screen(page: Page, name: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(PAGES[name])
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    settled(page)
    shoot(page, f"{name}-{width}")
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


INSIDE = """() => {
  const box = document.querySelector('[data-testid=stPopoverBody]').getBoundingClientRect();
  return box.left >= 0 && box.right <= innerWidth && innerWidth === 390;
}"""


def test_the_menus_fit_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    for menu in ("Views", "Export", "Last 7 days"):
        settled(page)
        button(page, menu).click()
        body = page.get_by_test_id("stPopoverBody")
        expect(body).to_be_visible()
        # A menu is moved into the window once its size is known.
        page.wait_for_function(INSIDE, timeout=30_000)
        close_menu(page)
