"""User actions in the browser: open a page, wait until it is idle, click, drag."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
from deltalake import DeltaTable
from playwright.sync_api import Error, FloatRect, Locator, Page, expect

from tests.dashboard.conftest import SHOTS

# From the top of a grid to its first row, and the height of a row of events.
HEAD, ROW = 31, 28
PATIENCE = 120_000
expect.set_options(timeout=PATIENCE)


def visit(page: Page, address: str = "/") -> None:
    page.goto(address)
    expect(grid(page)).to_be_visible()
    settled(page)


def settled(page: Page) -> None:
    """Wait until the script has finished: a page that is being rerun swallows clicks.

    After a click, first wait for something that only the new page shows: until the server has
    begun to rerun it, the old page is idle too.
    """
    app = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(app).to_be_attached()


def grid(page: Page, name: str = "events-") -> Locator:
    """Return the grid whose key begins with that name."""
    return page.locator(f'[class*="st-key-{name}"] [data-testid="stDataFrame"]')


def cells(page: Page, name: str) -> Locator:
    """Return the visible cells of that grid, as exposed to screen readers."""
    return grid(page, name).locator("[role=gridcell]")


def choose(page: Page, name: str, parameter: str) -> None:
    """Select a segmented control's option, which changes that parameter of the URL."""
    before = page.evaluate(value_of(parameter))
    page.get_by_role("radio", name=name, exact=True).click()
    page.wait_for_function(f"before => {value_of(parameter)} !== before", arg=before)
    settled(page)


def value_of(parameter: str) -> str:
    """Return JavaScript for the value of that parameter of the URL."""
    return f"new URL(location.href).searchParams.getAll('{parameter}').join()"


def turn_to(page: Page, tab: str, shown: Locator) -> None:
    """Open a tab until `shown`, a part of its content, appears: a rerun loses clicks."""
    for _ in range(5):
        settled(page)
        page.get_by_role("tab", name=tab).click()
        with suppress(AssertionError):
            expect(shown).to_be_visible(timeout=15_000)
            break
    expect(shown).to_be_visible()
    settled(page)


def chart(page: Page) -> Locator:
    return page.locator(".st-key-activity [data-testid='stVegaLiteChart']")


def details(page: Page) -> Locator:
    return page.locator(".st-key-details")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def click(page: Page, inside: Locator, x: float, y: float) -> None:
    """Click like a user: the grid loses a click without a pointer hovering before."""
    box = box_of(page, inside)
    page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.wait_for_timeout(200)
    box = box_of(page, inside)
    page.mouse.click(box["x"] + x, box["y"] + y)


def box_of(page: Page, inside: Locator) -> FloatRect:
    """Return the element's box; while Streamlit replaces it there may be two of it, or none."""
    for _ in range(PATIENCE // 100):
        expect(inside).to_have_count(1)
        with suppress(Error):
            box = inside.bounding_box(timeout=1000)
            if box and box["height"] > HEAD:
                return box
        page.wait_for_timeout(100)
    raise AssertionError("the element never stopped moving")


def click_row(page: Page, row: int, x: float = 400) -> None:
    """Open the event in that row."""
    click_until_named(page, grid(page), "ev", x, HEAD + ROW * (row + 0.5))


def click_header(page: Page, x: float) -> None:
    """Sort by the column at that place."""
    click_until_named(page, grid(page), "sort", x, HEAD / 2)


def click_value(page: Page, name: str, value: str, *, height: int, parameter: str) -> None:
    """Click the row of a grid that contains `value`, until that parameter of the URL changes."""
    click_place(page, name, row_of(page, name, value), height=height, parameter=parameter)


def click_place(page: Page, name: str, row: int, *, height: int, parameter: str) -> None:
    click_until_named(page, grid(page, name), parameter, 120, HEAD + height * (row + 0.5))


def row_of(page: Page, name: str, value: str) -> int:
    cell = cells(page, name).filter(has_text=value).first
    expect(cell).to_be_attached()
    return int((cell.get_attribute("id") or "").rpartition("-")[2])


def click_until_named(page: Page, inside: Locator, parameter: str, x: float, y: float) -> None:
    """Click until the URL changes: a grid that is being replaced loses clicks."""
    changed = f"before => {value_of(parameter)} !== before"
    before = page.evaluate(value_of(parameter))
    for _ in range(5):
        settled(page)
        click(page, inside, x, y)
        with suppress(Error):
            page.wait_for_function(changed, arg=before, timeout=15_000)
            return
    raise AssertionError(f"no click at {x}, {y} changed {parameter} in the address")


def opened(page: Page) -> str:
    """Return the uid of the open event in the URL."""
    return named(str(page.evaluate("location.href")))


def named(address: str) -> str:
    """Return the uid of the open event in `address`; it may contain slashes."""
    return parse_qs(urlsplit(address).query).get("ev", [""])[0].partition("/")[2]


def shows(page: Page, uid: str) -> None:
    """Wait until both the details and the URL have this event."""
    expect(details(page).get_by_text(uid, exact=True)).to_be_attached()
    page.wait_for_url(lambda url: named(url) == uid)


def close_menu(page: Page) -> None:
    """Press Escape until no popover is open: one that a rerun draws again loses the key."""
    body = page.get_by_test_id("stPopoverBody")
    for _ in range(5):
        settled(page)
        page.keyboard.press("Escape")
        with suppress(AssertionError):
            expect(body).to_have_count(0, timeout=15_000)
            return
    expect(body).to_have_count(0)


def drag(page: Page, box: FloatRect) -> None:
    """Drag over the graph, from one side of the box to the other, after closing any popover."""
    close_menu(page)
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] - 2, middle, steps=4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 2, middle, steps=8)
    page.mouse.up()
    page.wait_for_url("**/?*range=*..*")
    settled(page)


def newest(root: Path, count: int = 500) -> list[str]:
    """Return the uids of events in the order of the table."""
    events = pl.scan_delta(DeltaTable(root / "events"))
    ordered = events.sort("time", "event_uid", descending=True).select("event_uid").head(count)
    return ordered.collect()["event_uid"].to_list()


def day_of(root: Path, uid: str) -> str:
    """Return the date of the partition that the event is in."""
    events = pl.scan_delta(DeltaTable(root / "events")).filter(event_uid=uid)
    return str(events.select("date").collect().item())


def shoot(page: Page, name: str) -> None:
    """Save a screenshot for review."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=SHOTS / f"{name}.png")
