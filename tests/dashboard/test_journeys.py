"""Investigations of two weeks of sandbox events, and hostile text, in Chromium."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    button,
    cells,
    chart,
    choose,
    click_row,
    click_value,
    close_menu,
    day_of,
    details,
    drag,
    grid,
    newest,
    settled,
    shoot,
    turn_to,
    visit,
)
from tests.dashboard.small_lakes import HOSTILE
from tests.tiers import FULL

pytestmark = pytest.mark.browser
VICTIM = "theo.vanderberg@larkfield.example"
ATTACKER = "203.0.113.66"


def test_an_attack_is_found_across_vendors_and_exported(page: Page, tmp_path: Path) -> None:
    visit(page)
    clicks = [
        button(page, "Last 7 days").click,
        lambda: choose_range(page, "Last 30 days"),
        lambda: zoom_to_the_peak(page),
        lambda: choose(page, "Outliers", "tab"),
        lambda: click_value(page, "findings-", ATTACKER, height=30, parameter="f"),
        lambda: choose(page, "Integration", "by"),
        button(page, "Export").click,
    ]
    for click in clicks:
        click()
        settled(page)
    for vendor in ("okta", "google_workspace", "atlassian"):
        expect(cells(page, "legend-").filter(has_text=vendor)).to_be_attached()
    shoot(page, "attack")
    with page.expect_download() as download:
        page.get_by_role("link", name="Parquet").click()
    assert len([*clicks, download]) < 10
    download.value.save_as(tmp_path / "attack.parquet")
    is_the_attack(pl.read_parquet(tmp_path / "attack.parquet"))


def is_the_attack(taken: pl.DataFrame) -> None:
    """Password spraying, one account taken over and its documents, across three vendors."""
    tried = taken.filter(outcome="failure", activity_type="Authentication")
    done = taken.filter(pl.col("outcome") != "failure", pl.col("actor_email") == VICTIM)
    downloads = done.filter(pl.col("action").is_in(["download", "confluence_page_exported"]))
    assert tried["actor_email"].n_unique() > 10
    assert {"okta", "google_workspace", "entra_id"} <= set(done["integration"])
    assert "user.mfa.factor.reset_all" in set(done["action"])
    assert downloads.filter(integration="google_workspace").height > 100


def choose_range(page: Page, name: str) -> None:
    """Choose a range and wait until the page shows it: the old page is idle too."""
    page.get_by_role("radio", name=name).click()
    expect(button(page, name)).to_be_visible()


def zoom_to_the_peak(page: Page) -> None:
    drag(page, peak(chart(page)))


def peak(graph: Locator) -> FloatRect:
    """Return the box of the bucket with the most events."""
    buckets = graph.locator("path[aria-label*='Events:']")
    expect(buckets.first).to_be_attached()
    counts = buckets.evaluate_all(
        "all => all.map(one => +/Events: ([\\d,]+)/.exec(one.ariaLabel)[1].replaceAll(',', ''))"
    )
    box = buckets.nth(counts.index(max(counts))).bounding_box()
    assert box
    return box


def test_coverage_gaps_look_different_from_silence(page: Page) -> None:
    """Office 365 keeps a week, so only seven of thirty days are covered."""
    visit(page, "/?range=30d&q=integration:office_365")
    bands = chart(page).locator("path[fill='url(#uncovered)']")
    expect(bands.first).to_be_visible()
    expect(bands.first).to_have_attribute("aria-label", re.compile("not covered: office_365"))
    expect(page.locator("pattern#uncovered")).to_have_count(1)
    shoot(page, "blind")
    chart(page).locator("path[aria-label*='Events:']").first.hover()
    tooltip = page.locator("#vg-tooltip-element")
    expect(tooltip).to_contain_text("not covered: office_365")
    page.get_by_role("link", name="0 of 5 streams cover this time").click()
    page.wait_for_url("**/sources?range=30d")
    expect(page.get_by_role("heading", name="Coverage gaps of the last 14 days")).to_be_visible()
    for text in ("atlassian", "non_interactive_sign_ins", "100.0 %"):
        expect(page.locator("[role=gridcell]").filter(has_text=text).first).to_be_attached()


def test_a_click_on_uncovered_time_opens_sources_for_the_same_time(page: Page) -> None:
    visit(page, "/?range=30d&q=integration:office_365")
    strip = chart(page).locator("path[fill='url(#uncovered)']").last
    strip.click()
    expect(page.get_by_role("heading", name="Coverage of a time")).to_be_visible()
    page.wait_for_url("**/sources?range=30d")
    expect(page.get_by_role("radio", name="Last 30 days", checked=True)).to_be_attached()
    page.go_back()
    expect(page.get_by_placeholder("Search events")).to_have_value("integration:office_365")
    settled(page)
    page.get_by_role("link", name="0 of 5 streams cover this time").click()
    page.wait_for_url("**/sources?range=30d")


PAGES = (
    "/?range=30d&by=outcome",
    f"/?range=30d&f=source_ip:{ATTACKER}&tab=out",
    f"/entities?kind=actor&v={VICTIM}",
    "/sources",
    "/integrity",
    "/access",
)


@pytest.fixture
def judged(live_lake: Path) -> None:
    """A verification report with findings in hostile text."""
    small_lakes.judge(live_lake, datetime.now(UTC))


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_serious_accessibility_violations(
    page: Page, scheme: str, live_lake: Path
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    uid = newest(live_lake)[0]
    event = f"/?range=30d&ev={day_of(live_lake, uid)}/{quote(uid)}"
    half = {"light": slice(None, None, 2), "dark": slice(1, None, 2)}[scheme]
    for place, address in [*enumerate((*PAGES, event))][slice(None) if FULL else half]:
        page.goto(address)
        expect(page.locator('[data-testid="stDataFrame"]').first).to_be_visible()
        settled(page)
        if "ev=" in address:
            expect(details(page).get_by_text("matches the record")).to_be_attached()
            page.get_by_role("button", name="Actor", exact=True).click()
            expect(page.get_by_role("checkbox", name=re.compile("@")).first).to_be_visible()
            settled(page)
        shoot(page, f"{scheme}-{place}")
        found = Axe().run(page).response["violations"]
        assert not [
            (address, one["id"], [node["html"][:200] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]


@pytest.mark.usefixtures("judged")
def test_hostile_text_stays_text_on_every_page(page: Page, live_lake: Path) -> None:
    spoken: list[str] = []
    page.on("dialog", lambda dialog: (spoken.append(dialog.message), dialog.dismiss())[0])
    rows = [small_lakes.hostile(7100 + n, datetime.now(UTC)) for n in range(8)]
    small_lakes.append(live_lake, rows)
    addresses = [
        "/?q=evil.example&tab=out",
        f"/?{urlencode({'f': f'actor:{HOSTILE}', 'by': 'actor', 'ev': f'2026-11-26/{HOSTILE}'})}",
        f"/?{urlencode({'q': HOSTILE, 'tz': HOSTILE, 'range': HOSTILE})}",
        *(
            f"/entities?{urlencode({'kind': kind, 'v': HOSTILE})}"
            for kind in ("actor", "source_ip", "target", "user_agent", "session_id")
        ),
        f"/entities?{urlencode({'kind': HOSTILE, 'v': HOSTILE})}",
        "/sources",
        "/integrity",
        "/access",
    ]
    for address in addresses:
        page.goto(address)
        expect(
            page.locator('[data-testid="stDataFrame"], .st-key-notice, .st-key-faults').first
        ).to_be_visible()
        settled(page)
        harmless(page)
    assert not spoken


def harmless(page: Page) -> None:
    """Check that no element was made of the text; the fixture checks the requests."""
    expect(page.locator("img[src*='evil'], a[href^='javascript']")).to_have_count(0)
    expect(page.locator("[data-testid='stMarkdownContainer'] img, .katex")).to_have_count(0)
    assert page.evaluate("[...document.links].every(link => link.origin === location.origin)")


def test_hostile_events_are_shown_as_text_and_send_no_requests(
    page: Page, live_lake: Path, foreign: list[str]
) -> None:
    spoken: list[str] = []
    page.on("dialog", lambda dialog: (spoken.append(dialog.message), dialog.dismiss())[0])
    page.on("pageerror", lambda error: spoken.append(str(error)))
    small_lakes.append(live_lake, [small_lakes.hostile(7000, datetime.now(UTC))])
    visit(page, "/?q=evil.example")
    click_row(page, 0)
    expect(details(page).get_by_text("![x](http://evil.example/beacon.png)").first).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Only this Actor", exact=True).click()
    expect(page.get_by_role("button", name="Remove Actor is =cmd")).to_contain_text(
        "![x](http://evil"
    )
    settled(page)
    page.get_by_role("button", name="Exclude this User agent", exact=True).click()
    expect(page.get_by_text("No events match")).to_be_visible()
    settled(page)
    page.get_by_role("button", name="Remove User agent is not").click()
    expect(page.get_by_text("No events match")).to_have_count(0)
    expect(details(page)).to_be_visible()
    settled(page)
    turn_to(page, "Raw JSON", details(page).get_by_test_id("stCode"))
    turn_to(page, "Around this event", grid(page, "around-"))
    turn_to(page, "Details", details(page).get_by_text("Ingestion"))
    for group in ("Action type", "Actor", "Activity"):
        choose(page, group, "by")
        chart(page).hover()
    for popover in ("Actor", "Activity", "More"):
        page.get_by_role("button", name=popover, exact=True).click()
        values = page.get_by_test_id("stPopoverBody").get_by_role("checkbox")
        expect(values.first).to_be_visible()
        harmless(page)
        close_menu(page)
        expect(page.get_by_role("radio", name="is not")).to_have_count(0)
    shoot(page, "hostile")
    expect(page.locator("img[src*='evil'], a[href^='javascript']")).to_have_count(0)
    assert page.evaluate("[...document.links].every(link => link.origin === location.origin)")
    expect(page.locator("[data-testid='stMarkdownContainer'] img, .katex")).to_have_count(0)
    assert not spoken
    assert not foreign


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_render_in_both_colour_schemes(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    visit(page, "/?by=integration")
    shoot(page, f"explore-{scheme}")
    click_row(page, 4)
    expect(details(page)).to_be_visible()
    expect(details(page).get_by_text("matches the record")).to_be_attached()
    shoot(page, f"details-{scheme}")
    page.goto("/sources")
    expect(page.locator('[data-testid="stDataFrame"]').first).to_be_visible()
    settled(page)
    shoot(page, f"sources-{scheme}")
