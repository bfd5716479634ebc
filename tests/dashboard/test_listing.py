"""Pages in any order, with and without rollups, compared with a plain sort of everything."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from dashboard import fields, listing, queries
from dashboard.lake import Lake, Snapshot
from dashboard.listing import NEWEST, Order
from dashboard.queries import Filter, Query
from pipelines.lake import maintenance, tables
from pipelines.schemas import EVENTS
from tests.dashboard import small_lakes
from tests.tiers import crossed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUERY = Query(since=NOW - timedelta(days=7), until=NOW + timedelta(minutes=1))
ORDERS = [
    Order(field=field, descending=descending)
    for field in ("time", "ingested_at", "actor", "outcome", "country", "target", "title", "seq")
    for descending in (False, True)
]
SEARCHES = {
    "everything": QUERY,
    "text": Query(since=QUERY.since, until=QUERY.until, text="user OR file"),
    "filters": Query(
        since=NOW - timedelta(days=4, hours=7),
        until=QUERY.until,
        filters=(
            Filter(field="actor", value="ada@acme.example"),
            Filter(field="actor", value="grace@acme.example"),
            Filter(field="country", value="DE", negated=True),
        ),
    ),
}


@pytest.fixture(scope="module", params=["counted", "rolled up"])
def snapshot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    root = tmp_path_factory.mktemp("listed")
    rows = small_lakes.events(1300, end=NOW)
    # Two that differ in nothing but their uids, at the end of a page.
    rows[800]["time"] = rows[801]["time"]
    small_lakes.append(root, rows)
    if request.param == "rolled up":
        list(maintenance.maintain(tables.Lake(str(root)), [], date(2026, 11, 24)))
    found = Lake(str(root), {}).look()
    assert found
    return found


def listed(snapshot: Snapshot, query: Query, order: Order) -> list[str]:
    """Return the uids of all pages."""
    counted = snapshot.ask(queries.days, query)
    total = sum(n for _, n in counted)
    pages = [
        snapshot.ask(listing.page, query, number, counted, order=order)
        for number in range(1, -(-total // queries.PAGE) + 2)
    ]
    assert [page.height for page in pages[:-2]] == [queries.PAGE] * (len(pages) - 2)
    assert pages[-1].is_empty()
    return pl.concat(pages)["event_uid"].to_list()


def plainly_sorted(snapshot: Snapshot, query: Query, order: Order) -> list[str]:
    whole = EVENTS.get(order.field, pl.String())
    value = fields.value(order.field) if whole == pl.String() else pl.col(order.field)
    events = queries.matching(snapshot.events, query).with_columns(key=value).collect()
    newest = events.sort("time", "event_uid", descending=True)
    if order == Order(descending=False):
        return newest["event_uid"].reverse().to_list()
    return newest.sort("key", descending=order.descending, nulls_last=True, maintain_order=True)[
        "event_uid"
    ].to_list()


@pytest.mark.parametrize(("order", "search"), crossed(ORDERS, SEARCHES, count=36))
def test_pages_follow_the_order_of_the_whole_result(
    snapshot: Snapshot, order: Order, search: str
) -> None:
    query = SEARCHES[search]
    assert listed(snapshot, query, order) == plainly_sorted(snapshot, query, order)


def test_a_page_has_the_chosen_fields(snapshot: Snapshot) -> None:
    counted = snapshot.ask(queries.days, QUERY)
    names = ("city", "ingested_at", "actor")
    for order in (NEWEST, Order(descending=False), Order(field="actor"), Order(field="seq")):
        page = snapshot.ask(listing.page, QUERY, 1, counted, order=order, names=names)
        assert page.columns == ["event_uid", "date", "time", *names]
        assert page.height == queries.PAGE


def test_an_empty_result_has_an_empty_page(snapshot: Snapshot) -> None:
    nothing = Query(since=QUERY.since, until=QUERY.until, text="nobody")
    assert [listed(snapshot, nothing, order) for order in ORDERS] == [[]] * len(ORDERS)


@pytest.mark.parametrize("first", [1, 25_000])
@pytest.mark.parametrize("query", SEARCHES.values(), ids=SEARCHES)
def test_the_newest_events_are_those_of_the_first_page(
    snapshot: Snapshot, query: Query, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FIRST_READ", first)
    found = listing.newest_so_far(snapshot.counts, query)
    counted = queries.days(snapshot.counts, query)
    assert found.equals(queries.page(snapshot.counts, query, 1, counted))


def test_the_newest_events_of_a_rare_text_are_not_looked_for_in_all_days(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FIRST_READ", 1)
    monkeypatch.setattr(listing, "_MOST_READ", 200)
    everything = [uid for each in (1, 2, 3) for uid in uids(snapshot, each)]
    found = listing.newest_so_far(snapshot.counts, QUERY)["event_uid"].to_list()
    assert 200 <= len(found) < queries.PAGE
    assert found == everything[: len(found)]
    none = Query(since=QUERY.since, until=QUERY.since)
    assert listing.newest_so_far(snapshot.counts, none).is_empty()


def uids(snapshot: Snapshot, number: int) -> list[str]:
    counted = queries.days(snapshot.counts, QUERY)
    return queries.page(snapshot.counts, QUERY, number, counted)["event_uid"].to_list()
