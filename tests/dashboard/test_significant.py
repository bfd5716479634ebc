"""Outliers: a planted attack stands out, ordinary traffic does not."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import queries, significant
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Filter, Query
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ATTACK = NOW - timedelta(hours=2)
HOUR = Query(since=ATTACK, until=NOW)


def attack() -> list[small_lakes.Row]:
    """Eighty failed sign-ins from one new address, and events of the compromised account."""
    dice = random.Random(1)
    tries = [
        small_lakes.event(5000 + n, ATTACK + timedelta(seconds=n), dice)
        | {"source_ip": "198.51.100.7", "country": "RU", "outcome": "failure"}
        for n in range(80)
    ]
    taken = [
        small_lakes.event(5100 + n, ATTACK + timedelta(minutes=5, seconds=n), dice)
        | {"actor_email": "victim@acme.example", "source_ip": "198.51.100.7"}
        for n in range(8)
    ]
    return [*tries, *taken]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    root: Path = tmp_path_factory.mktemp("attacked")
    small_lakes.append(root, [*small_lakes.events(3000, end=NOW), *attack()])
    found = Lake(str(root), {}).look()
    assert found
    return found


def outliers(snapshot: Snapshot, query: Query, order: str) -> list[tuple[str, str]]:
    found = snapshot.ask(significant.found, query, order)
    return list(found.select("field", "value").iter_rows())


def test_an_attack_stands_out_by_address_country_and_outcome(snapshot: Snapshot) -> None:
    assert {
        ("source_ip", "198.51.100.7"),
        ("country", "RU"),
        ("outcome", "failure"),
    } <= set(outliers(snapshot, HOUR, "share")[:5])


def test_by_lift_the_compromised_account_comes_first(snapshot: Snapshot) -> None:
    ranked = outliers(snapshot, HOUR, "lift")
    assert ranked.index(("actor", "victim@acme.example")) < ranked.index(("outcome", "failure"))


def test_shares_and_lift_are_exact(snapshot: Snapshot) -> None:
    found = snapshot.ask(significant.found, HOUR, "share")
    row = found.row(by_predicate=pl.col("value") == "RU", named=True)
    selected = snapshot.ask(queries.summary, HOUR).events
    compared = snapshot.ask(queries.summary, significant.baseline(HOUR)).events
    assert row["n"] == 80
    assert row["share"] == pytest.approx(80 / selected)
    assert (row["before"], row["usual"]) == (0, 0)
    assert row["lift"] == pytest.approx((80 / selected) / (0.5 / (compared + 1)))


def shared(n: int) -> small_lakes.Row:
    """Return an event at the time of the attack; all have the last of three targets."""
    own = {"target_name": f"file-{n}", "target_id": None}
    others = [f"file-{n}", f"copy-{n}", "payroll.xlsx"]
    targets = [{"id": None, "name": name, "type": "File"} for name in others]
    event = small_lakes.event(9000 + n, ATTACK + timedelta(minutes=n), random.Random(n))
    return event | own | {"targets": targets}


def test_every_target_of_an_event_counts_and_each_event_once(tmp_path: Path) -> None:
    ordinary = small_lakes.events(500, end=ATTACK)
    small_lakes.append(tmp_path, [*ordinary, *(shared(n) for n in range(9))])
    found = Lake(str(tmp_path), {}).look()
    assert found
    outlier = found.ask(significant.found, HOUR, "share").row(
        by_predicate=pl.col("value") == "payroll.xlsx", named=True
    )
    selected = found.ask(queries.summary, HOUR).events
    filtered = replace(HOUR, filters=(Filter(field="target", value="payroll.xlsx"),))
    assert (outlier["field"], outlier["n"]) == ("target", 9)
    assert outlier["n"] == found.ask(queries.summary, filtered).events
    assert outlier["share"] == pytest.approx(9 / selected)
    pair = ("target", "payroll.xlsx")
    assert found.ask(significant.first_seen, (pair,)) == {pair: ATTACK}
    assert found.ask(significant.first_seen, (("target", "copy-3"),))


def test_ordinary_traffic_has_no_outliers_among_actors_and_addresses(snapshot: Snapshot) -> None:
    day = Query(since=NOW - timedelta(days=3), until=NOW - timedelta(days=1))
    everything = significant.baseline(day)
    assert everything.until == day.since
    assert not {field for field, _ in outliers(snapshot, day, "share")} & {"actor", "source_ip"}


def test_a_filtered_search_is_compared_with_its_whole_range() -> None:
    filtered = Query(since=ATTACK, until=NOW, filters=(Filter(field="outcome", value="failure"),))
    assert significant.baseline(filtered) == HOUR


def test_the_filter_itself_and_absent_values_do_not_stand_out(snapshot: Snapshot) -> None:
    wanted = (Filter(field="country", value="RU"), Filter(field="source_ip", value="198.51.100.7"))
    for order in significant.ORDERS:
        found = outliers(snapshot, replace(HOUR, filters=wanted[:1], text="Outcome:FAILURE"), order)
        assert found
        assert not {("country", "RU"), ("outcome", "failure")} & {*found}
        assert not [pair for pair in found if pair[1] == ""]
        assert ("source_ip", "198.51.100.7") in found
        both = outliers(snapshot, replace(HOUR, filters=wanted), order)
        assert not {("country", "RU"), ("source_ip", "198.51.100.7")} & {*both}
    excluded = replace(HOUR, filters=(Filter(field="country", value="GB", negated=True),))
    assert ("country", "RU") in outliers(snapshot, excluded, "share")


def test_a_filter_by_address_is_left_out_as_the_actor_too() -> None:
    query = replace(HOUR, filters=(Filter(field="actor_email", value="Ada@acme.example"),))
    assert significant.selected(query, "actor") == ["ada@acme.example"]
    assert significant.selected(query, "target") == []
    negated = replace(HOUR, text="-country:RU (city:Oslo OR city:Bergen)")
    assert not significant.selected(negated, "country") + significant.selected(negated, "city")


def test_new_values_come_before_stronger_ones(snapshot: Snapshot) -> None:
    found = snapshot.ask(significant.found, HOUR, "share")
    *others, weakest = found.select("field", "value").rows()
    ordered = significant.newest_first(found, {weakest})
    assert ordered.select("field", "value").rows() == [weakest, *others[:19]]


def test_first_seen_is_the_first_event_in_the_whole_lake(
    snapshot: Snapshot,
) -> None:
    values = (("source_ip", "198.51.100.7"), ("actor", "ada@acme.example"), ("country", ""))
    first = snapshot.ask(significant.first_seen, values)
    assert first["source_ip", "198.51.100.7"] == ATTACK
    assert first["actor", "ada@acme.example"] < NOW - timedelta(days=5)
    assert first["country", ""] < ATTACK


def test_a_handful_of_events_has_no_outliers(snapshot: Snapshot) -> None:
    few = Query(since=ATTACK - timedelta(minutes=8), until=ATTACK)
    assert outliers(snapshot, few, "share") == []
    assert outliers(snapshot, few, "lift") == []


def test_a_value_is_new_only_if_the_lake_reaches_back_further(snapshot: Snapshot) -> None:
    began = snapshot.ask(significant.begins, HOUR)
    assert began
    assert significant.is_new(ATTACK, began)
    assert not significant.is_new(ATTACK - timedelta(days=3), began)
    everything = Query(since=NOW - timedelta(days=30), until=NOW)
    assert not significant.is_new(ATTACK, snapshot.ask(significant.begins, everything))
    nothing = Query(since=NOW + timedelta(days=1), until=NOW + timedelta(days=2))
    assert snapshot.ask(significant.begins, nothing) is None
