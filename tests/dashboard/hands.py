"""What a person does with the page: look, wait until it stands still, point and click."""

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
    """Nothing is being made anew: a page that is swallows clicks.

    After a click this says nothing before something is seen that only the new page shows: until
    the server has begun, the old one stands still.
    """
    app = page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(app).to_be_attached()


def grid(page: Page, name: str = "events-") -> Locator:
    """The grid whose key begins with that name."""
    return page.locator(f'[class*="st-key-{name}"] [data-testid="stDataFrame"]')


def cells(page: Page, name: str) -> Locator:
    """What that grid shows, as a screen reader is told: only what is in sight."""
    return grid(page, name).locator("[role=gridcell]")


def choose(page: Page, name: str, parameter: str) -> None:
    """One of a row of choices, which changes that parameter of the address."""
    before = page.evaluate(said(parameter))
    page.get_by_role("radio", name=name, exact=True).click()
    page.wait_for_function(f"before => {said(parameter)} !== before", arg=before)
    settled(page)


def said(parameter: str) -> str:
    """What the address says of it, in the browser's language."""
    return f"new URL(location.href).searchParams.getAll('{parameter}').join()"


def turn_to(page: Page, tab: str, shown: Locator) -> None:
    """A tab, of whose content `shown` is a part."""
    page.get_by_role("tab", name=tab).click()
    expect(shown).to_be_visible()
    settled(page)


def chart(page: Page) -> Locator:
    return page.locator(".st-key-activity [data-testid='stVegaLiteChart']")


def details(page: Page) -> Locator:
    return page.locator(".st-key-details")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name)


def click(page: Page, inside: Locator, x: float, y: float) -> None:
    """As a hand does: the grid loses a click that no pointer has hovered before."""
    box = box_of(page, inside)
    page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.wait_for_timeout(200)
    box = box_of(page, inside)
    page.mouse.click(box["x"] + x, box["y"] + y)


def box_of(page: Page, inside: Locator) -> FloatRect:
    """Where the one element is; while Streamlit swaps it there are two of it, or none."""
    for _ in range(PATIENCE // 100):
        expect(inside).to_have_count(1)
        with suppress(Error):
            box = inside.bounding_box(timeout=1000)
            if box and box["height"] > HEAD:
                return box
        page.wait_for_timeout(100)
    raise AssertionError("the element never stood still")


def click_row(page: Page, row: int, x: float = 400) -> None:
    """Opens the event in that row."""
    click_until_named(page, grid(page), "ev", x, HEAD + ROW * (row + 0.5))


def click_value(page: Page, name: str, value: str, *, height: int, parameter: str) -> None:
    """Clicks the row of a grid that says `value`, until that parameter of the address changes."""
    click_place(page, name, row_of(page, name, value), height=height, parameter=parameter)


def click_place(page: Page, name: str, row: int, *, height: int, parameter: str) -> None:
    click_until_named(page, grid(page, name), parameter, 120, HEAD + height * (row + 0.5))


def row_of(page: Page, name: str, value: str) -> int:
    cell = cells(page, name).filter(has_text=value).first
    expect(cell).to_be_attached()
    return int((cell.get_attribute("id") or "").rpartition("-")[2])


def click_until_named(page: Page, inside: Locator, parameter: str, x: float, y: float) -> None:
    """Until the address says something else: a grid that is being swapped loses a click."""
    changed = f"before => {said(parameter)} !== before"
    before = page.evaluate(said(parameter))
    for _ in range(5):
        settled(page)
        click(page, inside, x, y)
        with suppress(Error):
            page.wait_for_function(changed, arg=before, timeout=15_000)
            return
    raise AssertionError(f"no click at {x}, {y} changed {parameter} in the address")


def opened(page: Page) -> str:
    """The event that the address names."""
    return named(str(page.evaluate("location.href")))


def named(address: str) -> str:
    """However it is spelled: some names have slashes in them."""
    return parse_qs(urlsplit(address).query).get("ev", [""])[0].partition("/")[2]


def shows(page: Page, uid: str) -> None:
    """The pane and the address agree on the event."""
    expect(details(page).get_by_text(uid, exact=True)).to_be_attached()
    page.wait_for_url(lambda url: named(url) == uid)


def drag(page: Page, box: FloatRect) -> None:
    """Over the graph, from one side of the box to the other; what lay over it is put away."""
    page.keyboard.press("Escape")
    expect(page.locator("[data-testid='stPopoverBody']")).to_have_count(0)
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] - 2, middle, steps=4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 2, middle, steps=8)
    page.mouse.up()
    page.wait_for_url("**/?*range=*..*")
    settled(page)


def newest(root: Path, count: int = 500) -> list[str]:
    """Names of the events as the table must list them."""
    events = pl.scan_delta(DeltaTable(root / "events"))
    ordered = events.sort("time", "event_uid", descending=True).select("event_uid").head(count)
    return ordered.collect()["event_uid"].to_list()


def shoot(page: Page, name: str) -> None:
    """Keep a picture, to be looked at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=SHOTS / f"{name}.png")
