"""Queries on a small real table, compared with plain results."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from dashboard import fields, queries, times, volumes
from dashboard.lake import Lake, Snapshot
from dashboard.queries import OTHER, Filter, Pushes, Query
from pipelines.schemas import RECONCILED
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUERY = Query(since=NOW - timedelta(days=7), until=NOW + timedelta(minutes=1))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("queried")
    small_lakes.append(root, small_lakes.events(1300, end=NOW))
    return root


@pytest.fixture(scope="module")
def snapshot(root: Path) -> Snapshot:
    found = Lake(str(root), {}).look()
    assert found
    return found


@pytest.fixture(scope="module")
def everything(snapshot: Snapshot) -> pl.DataFrame:
    return snapshot.events.sort("time", "event_uid", descending=True).collect()


def test_pages_have_no_gaps_and_no_repetitions(
    snapshot: Snapshot, everything: pl.DataFrame
) -> None:
    counted = snapshot.ask(queries.days, QUERY)
    pages = [snapshot.ask(queries.page, QUERY, number, counted) for number in (1, 2, 3, 4)]
    assert [page.height for page in pages] == [500, 500, 300, 0]
    assert pl.concat(pages)["event_uid"].to_list() == everything["event_uid"].to_list()


def test_the_end_of_a_range_belongs_to_the_next(
    snapshot: Snapshot, everything: pl.DataFrame
) -> None:
    middle = everything["time"][600]
    halves = Query(since=QUERY.since, until=middle), Query(since=middle, until=QUERY.until)
    counts = [sum(n for _, n in snapshot.ask(queries.days, half)) for half in halves]
    assert counts == [699, 601]


def test_only_the_days_of_the_range_are_read(tmp_path: Path, root: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    for folder in (copy / "events").glob("date=2026-11-1*"):
        shutil.rmtree(folder)
    opened = Lake(str(copy), {}).look()
    assert opened
    late = Query(since=datetime(2026, 11, 20, 1, tzinfo=UTC), until=QUERY.until)
    counted = opened.ask(queries.days, late)
    assert opened.ask(queries.page, late, 1, counted).height == 500
    with pytest.raises(OSError):
        opened.ask(queries.days, QUERY)


def test_new_events_are_counted_for_the_search_unless_others_were_replaced(
    tmp_path: Path, root: Path
) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    opened = Lake(str(copy), {})
    shown = opened.look()
    small_lakes.append(copy, small_lakes.events(30, end=NOW, days=1, seed=3, first=5000))
    grown = opened.look()
    assert shown and grown
    assert grown.ask(queries.added, QUERY, shown.counts) == 30
    for one in (replace(QUERY, text="actor:ada*"), replace(QUERY, text="nobody")):
        now, then = (sum(n for _, n in each.ask(queries.days, one)) for each in (grown, shown))
        assert grown.ask(queries.added, one, shown.counts) == now - then
    DeltaTable(copy / "events").optimize.compact()
    compacted = opened.look()
    assert compacted
    assert compacted.ask(queries.added, QUERY, shown.counts) is None


def test_counts_of_values_are_exact(snapshot: Snapshot, everything: pl.DataFrame) -> None:
    counted = dict(snapshot.ask(queries.values, QUERY, "country", 500).iter_rows())
    assert counted[""] == everything["country"].null_count()
    assert sum(counted.values()) == everything.height


def test_values_are_found_by_a_part_in_any_case(snapshot: Snapshot) -> None:
    every = snapshot.ask(queries.values, QUERY, "actor", 500)
    found = snapshot.ask(queries.values, QUERY, "actor", 500, "ADA@")
    assert found["value"].to_list() == ["ada@acme.example"]
    assert set(found.iter_rows()) <= set(every.iter_rows())
    assert snapshot.ask(queries.values, QUERY, "actor", 500, "a.*").is_empty()


@pytest.mark.parametrize("value", ["GB", ""])
def test_a_filter_and_its_opposite_split_the_result(snapshot: Snapshot, value: str) -> None:
    parts = [
        Query(
            since=QUERY.since,
            until=QUERY.until,
            filters=(Filter(field="country", value=value, negated=negated),),
        )
        for negated in (False, True)
    ]
    counts = [sum(n for _, n in snapshot.ask(queries.days, part)) for part in parts]
    assert sum(counts) == 1300
    assert all(counts)


def test_filters_on_one_field_widen_and_on_two_narrow(
    snapshot: Snapshot, everything: pl.DataFrame
) -> None:
    wanted = [("country", "GB"), ("country", "DE"), ("outcome", "failure")]
    filters = tuple(Filter(field=field, value=value) for field, value in wanted)
    query = Query(since=QUERY.since, until=QUERY.until, filters=filters)
    plain = everything.filter(pl.col("country").is_in(["GB", "DE"]), outcome="failure")
    assert snapshot.ask(queries.summary, query).events == plain.height


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_the_graph_counts_every_event_once(snapshot: Snapshot, zone: str) -> None:
    edges = times.edges(QUERY.since, QUERY.until, times.zone(zone))
    top = tuple(snapshot.ask(queries.values, QUERY, "actor", 8)["value"])
    counts = snapshot.ask(queries.activity, QUERY, "actor", top, edges)
    assert counts["n"].sum() == 1300
    assert set(counts["series"]) == {*range(8), OTHER}
    assert set(counts["start"]) <= set(edges)
    assert counts.select("start", "series").is_unique().all()


def test_an_actor_has_the_best_available_name() -> None:
    rows = [
        {"actor_email": "ada@acme.example", "actor_name": "Ada"},
        {"actor_email": "", "actor_name": "Grace"},
        {"actor_id": "7"},
        {},
    ]
    frame = pl.DataFrame([small_lakes.blank() | row for row in rows], schema=small_lakes.EVENTS)
    named = frame.select(fields.value("actor"))["actor"].to_list()
    assert named == ["ada@acme.example", "Grace", "7", None]


def test_sources_count_days_without_events(snapshot: Snapshot) -> None:
    streams = snapshot.ask(volumes.of_table, NOW)
    assert streams["events"].sum() == 1300
    assert all(len(daily) == 14 and daily[0] == 0 and daily[-1] > 0 for daily in streams["daily"])
    assert set(streams["delay"]) == {timedelta(seconds=2)}


def test_an_event_is_found_by_day_and_uid(snapshot: Snapshot, everything: pl.DataFrame) -> None:
    row = everything.row(700, named=True)
    assert snapshot.ask(queries.event, row["date"], row["event_uid"]) == row
    assert snapshot.ask(queries.event, row["date"], "another") is None


def test_backfilled_events_do_not_count_as_late(everything: pl.DataFrame) -> None:
    arrived = NOW - timedelta(days=1)
    backfilled = everything.with_columns(
        ingested_at=pl.max_horizontal("ingested_at", pl.lit(arrived))
    )
    streams = volumes.of_events(backfilled.lazy(), NOW)
    assert set(streams["delay"]) == {timedelta(seconds=2)}


def test_events_around_an_instant_are_the_nearest(snapshot: Snapshot) -> None:
    instant = NOW - timedelta(days=2)
    found = snapshot.ask(queries.nearest, QUERY, instant, 9)
    assert found.height == 9
    assert found["time"].is_sorted(descending=True)
    furthest = max(abs(time - instant) for time in found["time"])
    assert furthest <= timedelta(minutes=35)  # an event in seven minutes, on both sides


def test_pushed_events_are_compared_with_polled_ones() -> None:
    def day(on: int, stream: str, **counts: int) -> dict[str, object]:
        nothing = dict.fromkeys(("polled", "pushed", "both", "pushed_first", "unconfirmed"), 0)
        when = (NOW - timedelta(days=on)).date()
        return {"integration": "okta", "stream": stream, "date": when, **nothing, **counts}

    rows = [
        day(1, "a", polled=10, pushed=9, both=8, unconfirmed=1),
        day(2, "a", polled=10, pushed=10, both=10),
        day(30, "a", polled=99, pushed=0),
        day(1, "b", polled=10),
    ]
    table = pl.DataFrame(rows, schema=RECONCILED).lazy()
    assert queries.pushes(table, (NOW - timedelta(days=14)).date()) == {
        ("okta", "a"): Pushes(polled=20, both=18, unconfirmed=1)
    }


class _Targets:
    """Counts of targets alone."""

    def __init__(self, sums: list[tuple[str | None, int]]) -> None:
        self._sums = sums

    def targets(self, query: Query) -> pl.LazyFrame:
        return pl.LazyFrame(self._sums, {"value": pl.String, "n": pl.Int64}, orient="row")


@pytest.mark.parametrize("few", [0, 3, 99])
@pytest.mark.parametrize("key", [pl.Expr.hash, lambda value: value.str.len_bytes()])
@given(
    sums=st.lists(st.tuples(st.sampled_from([None, *"abcd", "", "aa", "bb"]), st.integers(1, 4)))
)
def test_the_most_frequent_targets_are_exact_even_if_hashes_are_equal(
    few: int, key: Callable[[pl.Expr], pl.Expr], sums: list[tuple[str | None, int]]
) -> None:
    totals = Counter[str]()
    for value, n in sums:
        totals[value or ""] += n
    ranked = sorted(totals.items(), key=lambda one: (-one[1], one[0]))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(queries, "_hash", key)
        patched.setattr(queries, "_FEW", few)
        found = queries.values(cast(queries.Counts, _Targets(sums)), QUERY, "target", 2)
    assert found.rows() == ranked[:2]
