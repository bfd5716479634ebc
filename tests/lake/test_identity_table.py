"""`identities` follows from `events`, whatever has happened to its files and rows."""

from __future__ import annotations

import itertools
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import LakeError
from pipelines.lake import commits, deletions, identity, identity_table, maintenance, rollup, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS, IDENTITIES
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TODAY = NOON.date()
PEOPLE = ("ada", "bob", "eve")


def shown(number: int, days: float, account: str, person: str | None) -> small_lakes.Row:
    row = small_lakes.event(number, NOON - timedelta(days=days), random.Random(number))
    ours = {"kind": "okta", "integration": "okta", "stream": "system_log", "outcome": "success"}
    address = f"{person}@acme.example" if person else None
    return row | ours | {"actor_id": f"00u{account}", "actor_email": address}


ROWS = [
    *(shown(n, n / 2, PEOPLE[n % 3], PEOPLE[n % 3]) for n in range(12)),
    shown(20, 2, "ada", None),
    shown(21, 3, "eve", "ada"),
]


def land(lake: Lake, *rows: small_lakes.Row) -> None:
    small_lakes.append(Path(lake.root), rows)


def maintained(lake: Lake) -> pl.DataFrame:
    list(maintenance.maintain(lake, [], TODAY))
    return stored(lake)


def stored(lake: Lake) -> pl.DataFrame:
    found = tables.scan(lake, "identities")
    assert found is not None
    return found.collect().sort(*IDENTITIES)


def expected(lake: Lake) -> pl.DataFrame:
    """Return the rows that the current events alone yield."""
    events = tables.scan(lake, "events")
    assert events is not None
    return identity.identities([identity.pairs(events)]).sort(*IDENTITIES)


def version(lake: Lake) -> int:
    return DeltaTable(lake.uri("identities")).version()


def test_maintenance_derives_the_accounts_of_past_days_and_of_today(lake: Lake) -> None:
    land(lake, *ROWS)
    assert maintained(lake).equals(expected(lake))
    assert stored(lake)["value"].unique().sort().to_list() == ["00uada", "00ubob", "00ueve"]


def test_late_events_widen_the_range(lake: Lake) -> None:
    land(lake, ROWS[0])
    maintained(lake)
    land(lake, shown(30, 5, "ada", "ada"))
    (row,) = maintained(lake).rows(named=True)
    assert (row["first_event"], row["last_seen"]) == (NOON - timedelta(days=5), NOON)


@pytest.mark.parametrize("person", ["bob", None])
def test_replaced_events_link_as_they_are_now(lake: Lake, person: str | None) -> None:
    land(lake, *ROWS)
    maintained(lake)
    day = (NOON - timedelta(days=3)).date()
    address = f"{person}@acme.example" if person else None
    rows = tables.scan(lake, "events").filter(date=day).collect()  # type: ignore[union-attr]  # exists
    write_deltalake(
        lake.uri("events"),
        rows.with_columns(actor_email=pl.lit(address, pl.String)),
        mode="overwrite",
        predicate=f"date = DATE '{day}'",
    )
    assert maintained(lake).equals(expected(lake))


def test_persons_of_removed_events_are_forgotten_with_their_files(lake: Lake) -> None:
    land(lake, *ROWS)
    maintained(lake)
    deletions.delete(lake, "events", "actor_id = '00ubob'")
    identity_table.forget(lake)
    assert stored(lake).equals(expected(lake))
    assert "00ubob" not in stored(lake)["value"].to_list()
    files = Path(lake.root, "identities").glob("*.parquet")
    assert all("00ubob" not in pl.read_parquet(file)["value"].to_list() for file in files)


def test_the_rows_are_written_only_when_they_differ(lake: Lake) -> None:
    land(lake, *ROWS)
    maintained(lake)
    before, files = version(lake), list(Path(lake.root, "identities").glob("*.parquet"))
    identity_table.derive(lake)
    assert version(lake) == before
    land(lake, shown(40, 1, "zoe", None))
    identity_table.derive(lake)
    assert version(lake) == before + 1
    assert list(Path(lake.root, "identities").glob("*.parquet")) == files


def test_the_position_is_the_version_of_events_of_that_very_table(lake: Lake) -> None:
    land(lake, *ROWS)
    maintained(lake)
    events, table = DeltaTable(lake.uri("events")), DeltaTable(lake.uri("identities"))
    assert commits.fence(table, f"events/{events.metadata().id}") == events.version() + 1
    shutil.rmtree(lake.uri("events"))
    shutil.rmtree(lake.uri("raw"))
    land(lake, shown(1, 0, "zoe", "zoe"))
    assert maintained(lake)["value"].to_list() == ["00uzoe"]


def test_a_rebuild_without_any_aggregate_gives_the_same_rows(lake: Lake) -> None:
    land(lake, *ROWS)
    before = maintained(lake)
    for table in ("identities", "rollups"):
        shutil.rmtree(lake.uri(table))
    assert maintained(lake).equals(before)


def test_aggregates_without_accounts_are_not_trusted(lake: Lake) -> None:
    land(lake, *ROWS)
    before = maintained(lake)
    old = pl.read_delta(lake.uri("rollups")).filter(pl.col("part") != rollup.IDENTITIES)
    for table in ("identities", "rollups"):
        shutil.rmtree(lake.uri(table))
    write_deltalake(lake.uri("rollups"), old.drop("layout"), partition_by=["part"])
    identity_table.derive(lake)
    assert stored(lake).equals(before)
    assert maintained(lake).equals(before)
    assert pl.read_delta(lake.uri("rollups")).filter(part=rollup.IDENTITIES).height


def test_a_lake_without_events_has_no_persons(lake: Lake) -> None:
    identity_table.derive(lake)
    assert tables.scan(lake, "identities") is None
    assert not identity_table.read(lake).always.height


def test_an_unreadable_table_is_one_error_with_advice(lake: Lake) -> None:
    land(lake, *ROWS)
    maintained(lake)
    for file in Path(lake.root, "identities").glob("*.parquet"):
        file.write_bytes(b"")
    with pytest.raises(LakeError, match="identities"):
        identity_table.read(lake)


def test_a_person_is_read_as_one(lake: Lake) -> None:
    land(lake, *ROWS[:12], ROWS[12])
    maintained(lake)
    events = tables.scan(lake, "events")
    assert events is not None
    named = identity_table.read(lake).named(events).filter(pl.col("person").is_not_null())
    assert named.select("actor_id", "person").collect().rows() == [("00uada", "ada@acme.example")]


@settings(max_examples=6)
@given(st.permutations(ROWS), st.lists(st.integers(1, 13), max_size=2))
def test_any_order_of_arrival_gives_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, rows: list[small_lakes.Row], cuts: list[int]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("ordered")))
    edges = sorted({0, *cuts, len(rows)})
    for first, until in itertools.pairwise(edges):
        land(lake, *rows[first:until])
        maintained(lake)
    frame = pl.DataFrame(ROWS, schema=EVENTS).lazy()
    assert stored(lake).equals(identity.identities([identity.pairs(frame)]).sort(*IDENTITIES))
