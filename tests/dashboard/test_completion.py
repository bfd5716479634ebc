"""The search box completes fields, and values that the rollups know."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Route

from dashboard import completion, visits
from dashboard.counts import Counts
from dashboard.lake import Lake
from dashboard.sight import EVERYTHING
from pipelines.lake import maintenance, tables
from pipelines.search import parser
from tests.dashboard import small_lakes
from tests.dashboard.hands import settled, shoot, value_of, visit
from tests.dashboard.shown import App

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose past days are rolled up, and with one event since."""
    root = tmp_path_factory.mktemp("completed")
    rows = small_lakes.events(300, end=NOW - timedelta(days=1))
    hostile = small_lakes.hostile(900, NOW - timedelta(days=2))
    small_lakes.append(root, [*rows, hostile])
    list(maintenance.maintain(tables.Lake(str(root)), [], NOW.date()))
    late = small_lakes.events(1, end=NOW, first=800)[0] | {"actor_email": "late@acme.example"}
    small_lakes.append(root, [late])
    return root


@pytest.fixture(scope="module")
def counts(root: Path) -> Counts:
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    return snapshot.counts


def texts(counts: Counts, text: str) -> list[str]:
    """Return the searches that `text` may become."""
    found = completion.complete(counts, text)
    return [text[: found.start] + choice.text for choice in found.choices]


def test_a_word_is_completed_to_the_fields_that_begin_with_or_contain_it(counts: Counts) -> None:
    assert texts(counts, "acto")[:2] == ["actor:", "actor_email:"]
    assert texts(counts, "ada -outc") == ["ada -outcome:", "ada -outcome_reason:"]
    assert "ip:" in texts(counts, "ip")
    assert texts(counts, "ingested") == ["ingested_at>="]


def test_a_value_is_completed_most_frequent_first(counts: Counts) -> None:
    found = completion.complete(counts, "integration:").choices
    assert [choice.text for choice in found][:2] == ["okta", "google"]
    sums = [int(choice.about.split()[0].replace(",", "")) for choice in found]
    assert sums == sorted(sums, reverse=True)
    assert texts(counts, "-actor:AD") == [
        "-actor:ada@acme.example",
        *texts(counts, "-actor:AD")[1:],
    ]
    assert texts(counts, "integration:(okta, goo") == ["integration:(okta, google"]
    assert texts(counts, "integration:okta,goo") == ["integration:okta,google"]


def test_a_later_target_is_completed_with_the_number_that_a_filter_finds(tmp_path: Path) -> None:
    targets = [{"id": None, "name": name, "type": "File"} for name in ("first", "second.pdf")]
    rows = [
        row | {"target_name": "first", "targets": targets}
        for row in small_lakes.events(3, end=NOW - timedelta(days=1))
    ]
    small_lakes.append(tmp_path, rows)
    list(maintenance.maintain(tables.Lake(str(tmp_path)), [], NOW.date()))
    snapshot = Lake(str(tmp_path), {}).look()
    assert snapshot
    (choice,) = completion.complete(snapshot.counts, "target:sec").choices
    assert (choice.text, choice.about) == ("second.pdf", "3 events")
    assert not texts(snapshot.counts, "target_name:sec")


def test_only_the_rollups_are_read(counts: Counts, root: Path) -> None:
    assert not texts(counts, "actor:late")
    assert not texts(counts, "user_agent:Moz")


def test_nothing_is_completed_inside_a_phrase_or_after_a_term(counts: Counts) -> None:
    for text in ('"acto', "actor:ada ", "", "x" * 501, "nofield:a", "a\\b\n"):
        assert not completion.complete(counts, text).choices


@pytest.mark.parametrize("field", ["actor", "target", "action", "country", "activity_type"])
def test_every_completed_value_finds_itself(counts: Counts, field: str) -> None:
    for choice in completion.complete(counts, f"{field}:").choices:
        term = parser.parse(f"{field}:{choice.text}")
        (word,) = term.words  # type: ignore[union-attr]
        known = completion._known(counts, field)["value"].to_list()
        assert word.text in known  # type: ignore[union-attr]


def test_a_request_needs_the_cookie_of_an_admitted_page(
    app: App, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app(root)
    served = Starlette(routes=[Route("/complete", completion.serve, methods=["POST"])])

    def answer(cookies: dict[str, str]) -> httpx.Response:
        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(app=served)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://test", cookies=cookies
            ) as client:
                return await client.post("/complete", content="integration:ok")

        return asyncio.run(post())

    known = {visits.COOKIE: "ours", "_streamlit_user": "ada"}
    visits.ADMITTED.note(visits.session(known), datetime.now(UTC), EVERYTHING)
    assert answer({}).status_code == 403
    assert answer({visits.COOKIE: "guessed"}).status_code == 403
    assert answer({visits.COOKIE: "ours"}).status_code == 403
    assert answer(known).json()["choices"][0]["text"] == "okta"


@pytest.mark.browser
def test_a_search_is_written_with_the_arrow_keys(page: Page, live_lake: Path) -> None:
    list(maintenance.maintain(tables.Lake(str(live_lake)), [], datetime.now(UTC).date()))
    visit(page)
    box = page.get_by_placeholder("Search events")
    box.press_sequentially("integr")
    choices = page.get_by_role("option")
    expect(choices).to_have_text(["integration:field"])
    box.press("ArrowDown")
    box.press("Tab")
    expect(box).to_have_value("integration:")
    box.press_sequentially("ok")
    expect(choices.first).to_contain_text("okta")
    shoot(page, "completion")
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("integration:okta ")
    expect(choices).to_have_count(0)
    box.press("Enter")
    page.wait_for_function(f"() => {value_of('q')} === 'integration:okta'")
    settled(page)
