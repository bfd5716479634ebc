"""Investigations of two weeks of sandbox events, in Chromium."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from deltalake import DeltaTable
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    button,
    cells,
    chart,
    choose,
    click_place,
    click_value,
    details,
    drag,
    grid,
    named,
    newest,
    opened,
    row_of,
    settled,
    shoot,
    shows,
    turn_to,
    visit,
)
from tests.dashboard.small_lakes import HOSTILE

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


def test_a_person_is_the_same_across_all_vendors(page: Page) -> None:
    page.goto("/entities")
    expect(page.get_by_placeholder("Part of a name")).to_be_visible()
    settled(page)
    page.get_by_placeholder("Part of a name").fill("theo")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^\d found"))).to_be_visible()
    settled(page)
    click_value(page, "found-", VICTIM, height=28, parameter="v")
    expect(page.locator(".st-key-entity_name").get_by_text(VICTIM)).to_be_visible()
    expect(page.locator(".st-key-facts")).to_contain_text("PA, US")
    page.get_by_role("tab", name="Names and accounts").click()
    for vendor in ("okta", "entra_id", "jumpcloud"):
        account = page.locator(".st-key-related-actor [role=gridcell]").filter(has_text=vendor)
        expect(account.first).to_be_attached()
    settled(page)
    shoot(page, "person")
    page.get_by_role("tab", name="IP address").click()
    click_value(page, "related-source_ip", ATTACKER, height=26, parameter="v")
    expect(page.locator(".st-key-entity_name").get_by_text(ATTACKER)).to_be_visible()
    page.go_back()
    expect(page.locator(".st-key-entity_name").get_by_text(VICTIM)).to_be_visible()
    settled(page)
    page.get_by_role("link", name="Show all events").click()
    expect(button(page, f"Actor is {VICTIM}")).to_be_visible()


def test_the_events_around_one_can_be_opened(page: Page, live_lake: Path) -> None:
    uid = newest(live_lake)[2]
    visit(page, f"/?ev={day_of(live_lake, uid)}/{quote(uid)}")
    shows(page, uid)
    settled(page)
    turn_to(page, "Around this event", grid(page, "around-"))
    page.get_by_role("radio", name="All", exact=True).click()
    total = re.compile(rf"^{around(live_lake, uid):,} events? within 30 minutes")
    expect(details(page).get_by_text(total)).to_be_visible()
    settled(page)
    mark = row_of(page, "around-", "▸")
    click_place(page, "around-", 1 if mark == 0 else 0, height=26, parameter="ev")
    assert opened(page) != uid
    settled(page)
    page.go_back()
    page.wait_for_url(lambda url: named(url) == uid)


def around(root: Path, uid: str) -> int:
    """Return the number of events within half an hour of that one."""
    events = pl.scan_delta(DeltaTable(root / "events"))
    time = events.filter(event_uid=uid).select("time").collect().item()
    margin = timedelta(minutes=30)
    near = pl.col("time").is_between(time - margin, time + margin, closed="left")
    count: int = events.filter(near).select(pl.len()).collect().item()
    return count


def day_of(root: Path, uid: str) -> str:
    events = pl.scan_delta(DeltaTable(root / "events")).filter(event_uid=uid)
    return str(events.select("date").collect().item())


def test_a_saved_view_can_be_opened_and_removed(page: Page) -> None:
    visit(page, "/?range=30d&f=integration:okta&f=-outcome:success&by=actor")
    button(page, "Views").click()
    page.get_by_label("Name this view").fill("![refused](http://evil.example/x.png)")
    button(page, "Save").click()
    saved = page.locator("[class*='st-key-view_']").get_by_role("button", name="![refused]")
    expect(saved).to_be_visible()
    visit(page)
    button(page, "Views").click()
    saved.click()
    expect(button(page, "Outcome is not success")).to_be_visible()
    page.wait_for_url("**by=actor**")
    settled(page)
    button(page, "Remove ![refused]").click()
    expect(saved).to_have_count(0)


def test_the_lake_can_be_searched_as_of_a_time(page: Page, live_lake: Path) -> None:
    then = datetime.now(UTC) - timedelta(minutes=1)
    small_lakes.append(live_lake, small_lakes.events(3, end=datetime.now(UTC), days=0, first=9000))
    events = pl.scan_delta(DeltaTable(live_lake / "events"))
    held = events.filter(pl.col("ingested_at") < then.replace(microsecond=0))
    count = held.select(pl.len()).collect().item()
    visit(page, f"/?{urlencode({'range': '30d', 'held': f'{then:%Y-%m-%dT%H:%M:%SZ}'})}")
    expect(page.get_by_text(f"{count:,} events ·")).to_be_visible()
    button(page, "As of").click()
    total = DeltaTable(live_lake / "events").count()
    expect(page.get_by_text(f"{total:,} events ·")).to_be_visible()
    page.goto("/?range=30d&held=2020-01-01T00:00:00Z")
    expect(page.get_by_text("No events match")).to_be_visible()
    shoot(page, "empty")
    button(page, "Clear filters").click()
    expect(grid(page)).to_be_visible()


def test_coverage_gaps_look_different_from_silence(page: Page) -> None:
    """Office 365 keeps a week, so only seven of thirty days are covered."""
    visit(page, "/?range=30d&f=integration:office_365")
    expect(page.get_by_text("streams with coverage gaps")).to_be_visible()
    bands = chart(page).locator("path[aria-label*='Gaps: office_365']")
    expect(bands.first).to_be_visible()
    shoot(page, "blind")
    page.get_by_role("link", name="Sources").click()
    expect(page.get_by_role("heading", name="Coverage gaps, last 14 days")).to_be_visible()
    for text in ("atlassian", "non_interactive_sign_ins", "100.0 %"):
        expect(page.locator("[role=gridcell]").filter(has_text=text).first).to_be_attached()


def test_access_is_recorded(page: Page) -> None:
    page.goto("/?q=trace-of-mine")
    expect(page.get_by_text("No events match")).to_be_visible()
    page.goto(f"/entities?kind=source_ip&v={ATTACKER}")
    expect(page.locator(".st-key-facts")).to_be_visible()
    page.goto("/access")
    for text in ("q=trace-of-mine", f"source_ip:{ATTACKER}", "searched", "looked up"):
        expect(page.locator("[role=gridcell]").filter(has_text=text).first).to_be_attached()
    settled(page)
    shoot(page, "access")


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
    for place, address in enumerate((*PAGES, event)):
        page.goto(address)
        expect(page.locator('[data-testid="stDataFrame"]').first).to_be_visible()
        settled(page)
        if "ev=" in address:
            expect(details(page).get_by_text("matches the record")).to_be_attached()
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
        expect(page.locator('[data-testid="stDataFrame"], .st-key-notice').first).to_be_visible()
        settled(page)
        harmless(page)
    assert not spoken


def harmless(page: Page) -> None:
    """Check that no element was made of the text; the fixture checks the requests."""
    expect(page.locator("img[src*='evil'], a[href^='javascript']")).to_have_count(0)
    expect(page.locator("[data-testid='stMarkdownContainer'] img, .katex")).to_have_count(0)
    assert page.evaluate("[...document.links].every(link => link.origin === location.origin)")
