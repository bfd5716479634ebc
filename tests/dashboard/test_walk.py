"""A walk through the surfaces, in Chromium and a terminal: each shows what the tables contain.

The lake has a stream that fails, one that was never polled, a lost range, an event in disguise and
a tampered table. These parts of the walk are elsewhere, with the real browser or command, too:

    checks in Dagster            orchestration/test_states.py, cli/test_up.py
    gaps and silence             test_journeys.py, cli/test_status.py
    searching                    test_completion.py, panels/test_chips.py, cli/test_search.py
    persons                      screens/test_entities.py, test_persons.py
    sorting, live, vanished      panels/test_events.py, panels/test_live.py
    hostile text                 test_journeys.py
    doctor                       cli/test_main.py, cli/test_doctor.py
    time and links               panels/test_span.py, test_analyst_tasks.py
    filters, whole texts         panels/test_facets.py, panels/test_hover.py
    ready searches, outliers     test_analyst_tasks.py, panels/test_ready.py, test_journeys.py
    files for auditors           test_analyst_tasks.py, panels/test_export.py
    timeline                     panels/test_timeline.py
    narrow screens               test_narrow.py
"""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from playwright.sync_api import Page, expect

from pipelines.lake import coverage, streams, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from tests.cli import command
from tests.dashboard import small_lakes
from tests.dashboard.conftest import SHOTS, free_port, serving
from tests.dashboard.hands import button, cells, details, settled, shoot, visit

pytestmark = pytest.mark.browser
NOW = datetime.now(UTC).replace(microsecond=0)
DISGUISED, MARKED = "\u0430d\u200bmin@acme.example", "[U+0430]d[U+200B]min@acme.example"
SCREEN = "<body style='margin:0;background:#111'><pre style='color:#ddd;padding:1em'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake, and a configuration of its commands."""
    root = tmp_path_factory.mktemp("walk")
    place = root / "lake"
    disguised = small_lakes.event(900, NOW - timedelta(minutes=5), random.Random(1))
    theirs = {"actor_email": DISGUISED, "actor_name": None, "actor_id": "00u900"}
    rows = small_lakes.events(400, end=NOW - timedelta(minutes=10))
    small_lakes.append(place, [*rows, disguised | theirs])
    _fetch(tables.Lake(str(place)))
    small_lakes.judge(place, NOW)
    (root / "auditlake.toml").write_text(f'[lake]\nroot = "{place}"\n')
    return root


def _fetch(lake: tables.Lake) -> None:
    """Record that one stream fails, one was never polled, and old records of another are lost."""
    days = [NOW - timedelta(days=n) for n in range(30)]
    done = Entry(since=days[20], until=NOW, asked_at=NOW)
    lost = Entry(
        since=days[29], until=days[25], asked_at=NOW, outcome="expired", reason="kept 25 d"
    )
    failed = Entry(since=NOW, until=NOW, asked_at=NOW, outcome="failed", reason="401: bad token")
    for name, entries in {"okta": [done], "google": [done, lost], "atlassian": [failed]}.items():
        coverage.record(lake, STREAMS[name], entries)
    streams.record(lake, STREAMS["entra"], Facts(kind="entra_id", title="Entra ID"), NOW)


STREAMS = {
    name: tables.StreamKey(name, stream)
    for name, stream in [
        ("okta", "system_log"),
        ("google", "drive"),
        ("entra", "sign_ins"),
        ("atlassian", "events"),
    ]
}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a server over the lake of this module."""
    with serving(folder / "lake", folder, free_port()) as address:
        yield address


@dataclass
class Terminal:
    """Runs commands in the folder and keeps a picture of each."""

    folder: Path
    page: Page
    test: str

    def run(self, *arguments: str) -> CompletedProcess[str]:
        done = command.auditlake(self.folder, *arguments, COLUMNS="120")
        out, err = done.stdout.decode(), done.stderr.decode()
        shown = f"$ auditlake {' '.join(arguments)}\n{out}{err}"
        self.page.set_content(f"{SCREEN}{html.escape(shown[:8000])}</pre>")
        name = f"walk-terminal-{self.test}-{arguments[0]}.png"
        self.page.locator("pre").screenshot(path=SHOTS / name)
        return CompletedProcess(arguments, done.returncode, out, err)


@pytest.fixture
def terminal(folder: Path, page: Page, request: pytest.FixtureRequest) -> Terminal:
    SHOTS.mkdir(parents=True, exist_ok=True)
    return Terminal(folder, page.context.new_page(), request.node.name.removeprefix("test_"))


def row_of(page: Page, name: str) -> str:
    """Return the first row of the page's first grid that begins with this text."""
    expect(page.locator("[role=gridcell]").filter(has_text=name).first).to_be_attached()
    texts: list[str] = page.get_by_test_id("stDataFrame").first.evaluate(
        "grid => [...grid.querySelectorAll('[role=row]')].map(row =>"
        " [...row.querySelectorAll('[role=gridcell]')].map(cell => cell.textContent).join(' '))"
    )
    return next(text for text in texts if text.startswith(name))


def total(page: Page) -> int:
    text = page.locator(".st-key-activity .quiet b").first.inner_text()
    return int(text.replace(",", ""))


def test_a_failing_stream_a_silent_one_and_a_loss_are_named_everywhere(
    page: Page, terminal: Terminal
) -> None:
    page.goto("/sources")
    assert "failing" in row_of(page, "atlassian")
    assert "401: bad token" in row_of(page, "atlassian")
    assert "never polled" in row_of(page, "entra")
    assert "up to date" in row_of(page, "okta")
    # Explore has the same sentence; the seconds since a recent poll are not missing.
    expect(page.get_by_text("2 of 4 streams cover this time")).to_be_visible()
    lost = page.locator("[role=gridcell]").filter(has_text="LOST: kept 25 d")
    expect(lost.first).to_be_attached()
    settled(page)
    shoot(page, "walk-sources")
    status = terminal.run("status").stdout
    assert "atlassian events: failing since" in status
    assert "401: bad token" in status
    assert re.search("entra sign_ins.*never polled", status)
    assert "LOST" in terminal.run("coverage", "google").stdout


def test_a_search_is_refused_at_the_same_place_everywhere(page: Page, terminal: Terminal) -> None:
    visit(page)
    box = page.get_by_placeholder("Search events")
    box.fill("a acter:ada")
    box.press("Enter")
    faults = page.locator(".st-key-faults")
    expect(faults).to_contain_text("use actor")
    settled(page)
    shoot(page, "walk-refused")
    done = terminal.run("search", "a acter:ada")
    assert done.returncode == 2
    assert "unknown field 'acter': use actor" in done.stderr
    for text in (faults.get_by_test_id("stCode").inner_text(), done.stderr):
        *_, line, caret = text.rstrip().splitlines()
        assert line[caret.index("^") :] == "acter:ada"


def test_a_disguised_name_is_found_and_marked_everywhere(page: Page, terminal: Terminal) -> None:
    visit(page, "/?q=admin")
    assert total(page) == 1
    expect(cells(page, "events-").filter(has_text=MARKED[:20]).first).to_be_attached()
    shoot(page, "walk-disguised")
    done = terminal.run("search", "admin")
    assert MARKED in done.stdout
    assert done.stderr.startswith("1 of 1 event")


def test_a_person_has_one_number_everywhere(page: Page, terminal: Terminal) -> None:
    page.goto("/entities?v=ada@acme.example")
    facts = page.locator(".st-key-facts")
    expect(facts).to_contain_text("Events")
    number = int(re.findall(r"Events\s+([\d,]+)", facts.inner_text())[0].replace(",", ""))
    settled(page)
    page.get_by_role("link", name="Show all events").click()
    expect(button(page, "Remove Actor is ada@acme.example")).to_be_visible()
    settled(page)
    assert total(page) == number
    done = terminal.run("search", "actor:ada@acme.example", "--json", "--limit", "1")
    assert f"1 of {number} events" in done.stderr
    assert json.loads(done.stdout)["actor_email"] == "ada@acme.example"


def test_doctor_judges_each_integration_without_the_others(
    terminal: Terminal, tmp_path: Path
) -> None:
    # Nothing listens on port 9, "discard".
    (tmp_path / "auditlake.toml").write_text(
        '[integrations.okta]\nbase_url = "https://acme.okta.com"\n'
        'api_token = { env = "NO_SUCH_TOKEN" }\n'
        '[integrations.opsgenie]\nbase_url = "http://127.0.0.1:9"\napi_key = "key"\n'
    )
    done = Terminal(tmp_path, terminal.page, terminal.test).run("doctor")
    assert done.returncode == 2
    lake, okta, opsgenie = done.stdout.splitlines()
    assert lake.startswith("ok    lake")
    assert re.match("FAIL  okta: .*variable NO_SUCH_TOKEN is not set", okta)
    assert re.match("FAIL  opsgenie logs: .*Connection refused.*check base_url", opsgenie)


def test_a_link_to_a_missing_event_offers_a_search_for_it(page: Page) -> None:
    visit(page, "/?ev=2026-11-01/okta:system_log:gone")
    expect(details(page)).to_contain_text("The lake has no such event")
    shoot(page, "walk-missing")
    button(page, "Search the last year for it").click()
    expect(page.get_by_text("match this search")).to_be_visible()


def test_steps_through_time_lead_there_and_back(page: Page) -> None:
    page.goto("/?range=2026-11-17T08:00:00Z..2026-11-17T10:30:00Z")
    button(page, "Previous time range").click()
    page.wait_for_url(re.compile("range=2026-11-17T05"))
    settled(page)
    button(page, "Next time range").click()
    page.wait_for_url(re.compile("range=2026-11-17T08"))


def test_columns_and_groups_are_chosen_with_the_mouse_and_kept_in_the_link(page: Page) -> None:
    visit(page)
    page.get_by_role("combobox", name="Group by another column").fill("Country")
    page.get_by_role("option", name="Country").click()
    page.wait_for_url("**by=country*")
    settled(page)
    page.get_by_role("button", name="Columns", exact=True).click()
    button(page, "Move Integration to the left").click()
    page.wait_for_url("**cols=integration*")
    settled(page)
    page.keyboard.press("Escape")
    shoot(page, "walk-columns")
    page.reload()
    expect(cells(page, "events-").first).to_have_text(re.compile("okta|google|entra|atlassian"))
    expect(cells(page, "legend-").filter(has_text="GB").first).to_be_attached()


def test_a_tampered_table_comes_first_with_the_next_step(page: Page) -> None:
    page.goto("/integrity")
    expect(page.locator("[class*='st-key-finding_']").first).to_be_visible()
    settled(page)
    assert row_of(page, "raw/").startswith("raw/okta/system_log")
    shoot(page, "walk-integrity")
