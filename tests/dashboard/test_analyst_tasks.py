"""Ten tasks of an analyst, each answered from the bare address in at most four clicks.

The answers are those of the attacks that the sandbox plants. Typing a text counts as a click.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pipelines import registry
from pipelines.extraction import rounds
from pipelines.integrity import keys
from pipelines.lake import identity_table
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from sandbox.company import Account, Act, Company, Step
from sandbox.server import Options, running, services
from tests.dashboard.conftest import free_port, serving
from tests.dashboard.hands import (
    button,
    cells,
    click_row,
    click_value,
    details,
    grid,
    settled,
    shoot,
    value_of,
    visit,
)

pytestmark = pytest.mark.browser
COMPANY = Company(1)
VICTIM, INSIDER, ADMIN = (COMPANY.one(name).email for name in ("Finance", "Sales", "IT"))
ACCOMPLICE = COMPANY.services[1]
KEPT = {"office_365": timedelta(days=6)}  # less than the vendor does, whose end moves
FORM = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class World:
    """A signed lake of 25 days of the simulated company, and the truth about its attacks."""

    root: Path
    anchor: datetime

    @property
    def integrity(self) -> IntegritySettings:
        return IntegritySettings(folder=Path(f"{self.root}-state"))

    @cached_property
    def events(self) -> pl.DataFrame:
        return pl.read_delta(str(self.root / "events"))

    def steps(self, act: Act, *, last: timedelta = timedelta(days=30)) -> list[Step]:
        """Return the planted steps of an attack, in order."""
        steps = COMPANY.attacks(self.anchor)
        return [step for step in steps if step.act == act and step.time > self.anchor - last]

    def planted(self, step: Step) -> pl.DataFrame:
        """Return the events of a step, in every vendor that records it."""
        distance = (pl.col("time") - step.time).abs()
        # Others, and the same person, may happen to work at the same moment.
        who = pl.concat_str("actor_email", "actor_name", "actor_id", ignore_nulls=True)
        theirs = who.str.to_lowercase().str.contains(_named(step.actor))
        near = self.events.filter(distance < timedelta(seconds=2), theirs).sort(distance)
        found = pl.concat(
            near.filter(kind=kind, stream=stream).head(events)
            for (kind, stream), events in recording(step.act).items()
        )
        age = self.anchor - step.time
        kept = {kind for kind, _ in recording(step.act) if age < KEPT.get(kind, MOST)}
        assert set(found["kind"]) >= kept
        return found


def _named(actor: Account) -> str:
    """Return a pattern of the names by which vendors know an account."""
    names = [actor.name, actor.email.partition("@")[0] if actor.email else actor.name]
    return "|".join(re.escape(name.lower()) for name in names)


MOST = timedelta(days=30)


def recording(act: Act) -> dict[tuple[str, str], int]:
    """Return how many events of this step of an attack each vendor's streams record."""
    found = {
        (kind, stream.name): sum(act in habit.acts for habit in stream.habits)
        for kind, service in services().items()
        for stream in service.streams
    }
    return {stream: events for stream, events in found.items() if events}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World(tmp_path_factory.mktemp("company") / "lake", datetime.now(UTC))
    lake = Lake(str(found.root), None, found.integrity)
    with running(Options(days=25, per_day=12, rate=0, anchor=found.anchor)) as sandbox:
        sources = [registry.source(kind, keys) for kind, keys in sandbox.settings().items()]
        assert not [one.error for one in rounds.poll(lake, sources) if one.error]
    identity_table.derive(lake)
    return found


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[str]:
    """The address of a server over the lake of this module's company."""
    with serving(world.root, world.root, free_port()) as address:
        yield address


class Analyst:
    """A user who starts at the bare address, and whose clicks are counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0
        visit(page)

    def click(self, what: Locator, shown: Locator | None = None) -> None:
        """Click, and wait for a part of the page that only the result has."""
        self.clicks += 1
        what.click()
        if shown:
            expect(shown.first).to_be_attached()
        settled(self.page)

    def row(self, click: Callable[[], None]) -> None:
        self.clicks += 1
        click()
        settled(self.page)

    def type(self, box: Locator, text: str, parameter: str) -> None:
        """Type a text that changes this parameter of the address."""
        self.clicks += 1
        before = self.page.evaluate(value_of(parameter))
        box.fill(text)
        box.press("Enter")
        self.page.wait_for_function(f"before => {value_of(parameter)} !== before", arg=before)
        settled(self.page)

    def search(self, text: str) -> None:
        self.type(self.page.get_by_placeholder("Search events"), text, "q")

    def ready(self, title: str) -> None:
        """Choose a ready search, in two clicks."""
        self.click(button(self.page, "Views"), self.page.get_by_text("Ready searches"))
        self.click(self.page.get_by_role("button", name=title), self.page.locator(".st-key-ready"))

    def span(self, text: str) -> None:
        """Type the time range into its menu."""
        box = self.page.get_by_role("textbox", name="Time")
        self.click(button(self.page, "Last 7 days"), box)
        self.type(box, text, "range")


@pytest.fixture
def analyst(page: Page, request: pytest.FixtureRequest) -> Iterator[Analyst]:
    found = Analyst(page)
    yield found
    shoot(page, str(request.node.name).replace("test_", "task-"))
    assert found.clicks <= 4


def total(page: Page) -> int:
    """Return the number of events that the page shows."""
    text = page.locator(".st-key-activity .quiet b").first.inner_text()
    return int(text.replace(",", ""))


def rows(page: Page, name: str) -> list[list[str]]:
    """Return the texts of the visible rows of a grid."""
    expect(cells(page, name).first).to_be_attached()
    texts: list[list[str]] = grid(page, name).evaluate(
        "one => [...one.querySelectorAll('[role=row]')].map(row =>"
        " [...row.querySelectorAll('[role=gridcell]')].map(cell => cell.textContent))"
    )
    return [row for row in texts if row]


def local(email: str) -> str:
    """Return the part of an address that no column shortens."""
    return email.partition("@")[0]


def test_who_was_given_admin_rights_last_week(analyst: Analyst, world: World) -> None:
    analyst.ready("Admin rights granted")
    (step,) = world.steps("grant_admin")
    found = world.planted(step)
    shown = [row for row in rows(analyst.page, "events-") if row[4].startswith(local(ADMIN))]
    vendors = {kind for kind, _ in recording("grant_admin")}
    assert {row[1] for row in shown} == set(found["integration"]) == vendors
    named = {row[1] for row in shown if re.search("(?i)backup.runner", " ".join(row))}
    # Entra ID's target is the role; the member is in the details.
    assert named == set(found["integration"]) - {"entra_id"}
    assert len(shown) == found.height <= total(analyst.page)


def test_what_one_person_did_around_a_failed_mfa(analyst: Analyst, world: World) -> None:
    (step,) = world.steps("fail_mfa")
    assert {"okta", "entra_id"} == set(world.planted(step)["kind"])
    analyst.search(f"{local(ADMIN)} mfa outcome:failure")
    found = world.events.filter(
        pl.col("actor_email") == ADMIN,
        pl.col("outcome") == "failure",
        pl.col("action").str.contains("mfa"),
        pl.col("time") > datetime.now(UTC) - timedelta(days=7),
    ).sort("time", descending=True)
    assert total(analyst.page) == found.height
    newer = found.filter(pl.col("time") > step.time + timedelta(seconds=2)).height
    analyst.row(lambda: click_row(analyst.page, newer))
    around = analyst.page.get_by_role("tab", name="Around this event")
    analyst.click(around, grid(analyst.page, "around-"))
    near = (pl.col("time") - step.time).abs() <= timedelta(minutes=30)
    theirs = world.events.filter(near, (pl.col("actor_email") == ADMIN))
    others = ("sign_in", "grant_admin", "weaken_policy", "create_token")
    for act in others:
        (other,) = [one for one in world.steps(act) if one.time > step.time]
        assert set(world.planted(other)["event_uid"]) <= set(theirs["event_uid"])
    expect(details(analyst.page).get_by_text(f"{theirs.height} events within")).to_be_visible()


def test_which_accounts_appeared_in_new_countries(analyst: Analyst, world: World) -> None:
    analyst.span("last 12d")
    analyst.ready("New countries")
    found = rows(analyst.page, "ready-")
    tried = {step.actor.email for step in world.steps("sign_in") if step.place.code == "PA"}
    took = [step for step in world.steps("sign_in") if step.actor.email == VICTIM and step.ok]
    assert len(took) == 1
    assert found[0][0] == VICTIM
    assert re.fullmatch(r"PA, [1-9]\d* of \d+ succeeded", found[0][1])
    # All others failed, and nobody else was abroad.
    assert all(row[0] in tried for row in found)
    assert all(row[1].startswith("PA, 0 of") for row in found[1:])


def test_which_app_got_which_scopes_from_whom(analyst: Analyst, world: World) -> None:
    analyst.ready("OAuth grants")
    step = world.steps("create_token")[-1]
    found = world.planted(step).filter(kind="google_workspace")
    assert step.thing
    place = [row[-1] for row in rows(analyst.page, "events-")].index(step.thing.name)
    analyst.row(lambda: click_row(analyst.page, place))
    pane = details(analyst.page)
    expect(pane).to_contain_text(str(ADMIN))
    expect(pane).to_contain_text(step.thing.name)
    scopes = [target["name"] for target in found["targets"].item() if "auth/" in target["name"]]
    assert len(scopes) == 2
    for scope in scopes:
        expect(pane).to_contain_text(scope)


def test_who_downloaded_more_than_usual(analyst: Analyst, world: World) -> None:
    analyst.ready("Mass download")
    (found,) = rows(analyst.page, "ready-")
    steps = [*world.steps("download", last=timedelta(days=7)), *world.steps("export")[1:2]]
    assert {step.actor.email for step in steps} == {INSIDER} == {found[0]}
    times = pl.concat(world.planted(step).select("time") for step in steps)["time"]
    # A finding counts hours with at least 20 downloads, with their own work in these.
    hours = times.dt.truncate("1h").value_counts().filter(pl.col("count") >= 20)
    assert hours["count"].sum() <= int(found[-1]) <= hours["count"].sum() + 5
    assert found[1].endswith("in one hour, at most 0 before")
    analyst.row(lambda: click_value(analyst.page, "ready-", str(INSIDER), height=28, parameter="f"))
    expect(button(analyst.page, f"Remove Actor is {INSIDER}")).to_be_visible()
    assert len(times) <= total(analyst.page) <= len(times) + 10


def test_what_an_address_from_a_report_did(analyst: Analyst, world: World) -> None:
    address = COMPANY.attacks(world.anchor)[0].place.ip
    analyst.search(address.replace(".", "[.]"))
    found = world.events.filter(source_ip=address)
    offer = button(analyst.page, f"{found.height:,} events outside this time")
    analyst.click(offer, cells(analyst.page, "events-"))
    assert total(analyst.page) == found.height
    analyst.click(analyst.page.get_by_role("radio", name="Actor", exact=True))
    legend = cells(analyst.page, "legend-").filter(has_text=str(VICTIM))
    expect(legend).to_be_attached()
    # The account that was taken over has the most events from there.
    assert found["actor_email"].drop_nulls().mode().to_list() == [VICTIM]
    assert str(VICTIM) in rows(analyst.page, "legend-")[0]


def test_what_a_service_account_did_at_night(analyst: Analyst, world: World) -> None:
    (step,) = [one for one in world.steps("export") if one.actor == ACCOMPLICE]
    night = (step.time - timedelta(hours=4)).replace(second=0, microsecond=0)
    until = night + timedelta(hours=8)
    analyst.span(f"{night:%Y-%m-%dT%H:%MZ} to {until:%Y-%m-%dT%H:%MZ}")
    analyst.search("actor:*backup*runner*")
    name = pl.coalesce("actor_email", "actor_name").str.to_lowercase()
    found = world.events.filter(
        name.str.contains("backup.runner"), pl.col("time").is_between(night, until, closed="left")
    )
    planted = world.planted(step)
    assert set(planted["event_uid"]) <= set(found["event_uid"])
    assert total(analyst.page) == found.height
    shown = rows(analyst.page, "events-")
    assert len(shown) == found.height
    assert {row[1] for row in shown if "xport" in row[3] or "ownload" in row[3]} == set(
        planted["integration"]
    )


def test_whether_anything_is_missing_in_a_time(page: Page, world: World) -> None:
    known = pl.read_delta(str(world.root / "streams"))
    kept = known.filter(pl.col("integration") != "office_365").height
    spans = {(6, 2): known.height, (20, 15): kept}
    for (since, until), complete in spans.items():
        analyst = Analyst(page)
        analyst.click(
            page.get_by_role("link", name="Sources"), page.get_by_text("Coverage of a time")
        )
        box = page.get_by_role("textbox", name="Time")
        analyst.click(button(page, "Dates"), box)
        first, last = (world.anchor - timedelta(days=days) for days in (since, until))
        analyst.type(box, f"{first:%Y-%m-%dT%H:%MZ} to {last:%Y-%m-%dT%H:%MZ}", "range")
        sentence = f"{complete} of {known.height} streams cover this time"
        expect(page.get_by_text(sentence)).to_be_visible()
        page.get_by_text(sentence).scroll_into_view_if_needed()
        shoot(page, f"task-coverage-{complete}")
        assert analyst.clicks <= 4


def test_a_file_for_the_auditor(analyst: Analyst, world: World, tmp_path: Path) -> None:
    analyst.search("svc-backup-runner")
    shown = total(analyst.page)
    pack = button(analyst.page, "Evidence pack")
    analyst.click(button(analyst.page, "Export"), pack)
    link = analyst.page.get_by_role("link", name=re.compile("^Download evidence-"))
    analyst.click(pack, link)
    with analyst.page.expect_download() as download:
        analyst.click(link)
    file = tmp_path / "evidence.zip"
    download.value.save_as(file)
    with zipfile.ZipFile(file) as found:
        records = found.read("records.ndjson").decode()
    assert len(records.splitlines()) == shown
    ids = world.planted(world.steps("grant_admin")[0]).filter(kind="google_workspace")["event_id"]
    assert all(one in records for one in ids)
    key = keys.trusted(world.integrity)[0]
    command = [sys.executable, str(file), "--key", key]
    checked = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_link_for_a_colleague(analyst: Analyst, browser: Browser, server: str) -> None:
    analyst.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    analyst.search(f"{INSIDER} action_type:Download")
    fixed = analyst.page.get_by_test_id("stCode").last
    analyst.click(button(analyst.page, "Link"), fixed)
    fixed.hover()
    analyst.click(analyst.page.get_by_role("button", name="Copy to clipboard").last)
    address = str(analyst.page.evaluate("navigator.clipboard.readText()"))
    assert address.startswith(server)
    assert ".." in address
    with browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB") as elsewhere:
        colleague = elsewhere.new_page()
        visit(colleague, address)
        assert total(colleague) == total(analyst.page) > 300
        assert rows(colleague, "events-")[0][1:] == rows(analyst.page, "events-")[0][1:]
