"""Reading the lake: pinned versions, absent and damaged tables, raw records."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from dashboard import lake, open_lake, queries, volumes
from dashboard.lake import Lake
from dashboard.queries import Filter, Query
from dashboard.sight import Door
from pipelines.lake import identity_table, rollup, rollup_table, tables
from pipelines.lake.versions import TableVersion
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FAR = NOW - timedelta(days=9)
QUERY = Query(since=NOW - timedelta(days=2), until=NOW + timedelta(days=1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_lakes.append(tmp_path, small_lakes.events(50, end=NOW, days=1))
    return tmp_path


def test_a_lake_without_events_is_not_an_error(tmp_path: Path) -> None:
    assert Lake(str(tmp_path / "absent"), {}).look() is None


def test_a_snapshot_is_unchanged_while_the_lake_grows(root: Path) -> None:
    opened = Lake(str(root), {})
    before = opened.look()
    small_lakes.append(root, [small_lakes.hostile(9000, NOW)])
    after = opened.look()
    assert before and after
    assert (before.rows, after.rows) == (50, 51)
    assert before.ask(queries.summary, QUERY).events == 50
    assert after.ask(queries.summary, QUERY).events == 51


def test_an_unchanged_lake_is_not_read_again(root: Path) -> None:
    opened = Lake(str(root), {})
    first, second = opened.look(), opened.look()
    assert first and first is second
    assert first.ask(queries.days, QUERY) is first.ask(queries.days, QUERY)


def test_a_lake_that_was_removed_or_replaced_is_not_shown_from_memory(root: Path) -> None:
    opened = Lake(str(root), {})
    first = opened.look()
    assert first and opened.seen == first.version == 0
    shutil.rmtree(root / "events")
    assert opened.look() is None
    assert opened.seen == 0
    small_lakes.append(root, small_lakes.events(3, end=NOW, days=1))
    second = opened.look()
    assert second and (second.version, second.rows) == (0, 3)
    shutil.rmtree(root / "events")
    small_lakes.append(root, small_lakes.events(4, end=NOW, days=1))
    third = opened.look()
    assert third and (third.version, third.rows) == (0, 4)


def test_a_damaged_table_is_reported_and_reopened(root: Path) -> None:
    log = next((root / "events" / "_delta_log").glob("*.json"))
    whole = log.read_bytes()
    log.write_bytes(b"not a log")
    opened = Lake(str(root), {})
    with pytest.raises(lake.UNREADABLE):
        opened.look()
    log.write_bytes(whole)
    opened.forget()
    assert opened.look()


def test_a_raw_record_has_its_arrival_and_hash(root: Path) -> None:
    event = small_lakes.events(50, end=NOW, days=1)[-1]
    day = event["time"].date()
    record = Lake(str(root), {}).record(event["integration"], event["stream"], day, 49)
    assert record
    assert record.via == "poll"
    assert record.intact()
    assert '"uuid": "00000049"' in record.raw


@pytest.mark.parametrize("part", ["..", "../x", "a/b", "", ".hidden", "a\\b"])
def test_a_name_in_an_event_cannot_leave_the_raw_folder(root: Path, part: str) -> None:
    with pytest.raises(FileNotFoundError):
        Lake(str(root), {}).record(part, "system_log", date(2026, 11, 23), 0)


def test_the_lake_is_the_configured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "auditlake.toml"
    file.write_text('[lake]\nroot = "/somewhere/else"\n')
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(file))
    monkeypatch.delenv("AUDITLAKE_LAKE__ROOT", raising=False)
    assert open_lake.unguarded().root == "/somewhere/else"
    file.unlink()
    assert open_lake.unguarded().root == "data"


def test_a_person_is_resolved_as_soon_as_the_accounts_are_derived(root: Path) -> None:
    ours = {"kind": "okta", "integration": "okta", "actor_id": "00u7", "actor_name": None}
    rows = [small_lakes.event(n, NOW, random.Random(n)) | ours for n in (900, 901)]
    addresses = ("zoe@acme.example", None)
    found = [row | {"actor_email": text} for row, text in zip(rows, addresses, strict=True)]
    small_lakes.append(root, found)
    opened = Lake(str(root), {})
    query = replace(QUERY, filters=(Filter(field="actor", value="zoe@acme.example"),))
    before = opened.look()
    assert before and before.ask(queries.summary, query).events == 1
    identity_table.derive(tables.Lake(str(root)))
    after = opened.look()
    assert after and after.version == before.version
    assert after.ask(queries.summary, query).events == 2
    assert opened.look() is after
    shutil.rmtree(root / "identities")
    opened.forget()
    lost = opened.look()
    assert lost and lost.ask(queries.summary, query).events == 1


def test_states_of_streams_are_shown_without_rollups_and_persons(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollup_table.roll_up(tables.Lake(str(root)), (NOW + timedelta(days=1)).date())
    identity_table.derive(tables.Lake(str(root)))
    real, opened = Door._opened, []

    def seen(door: Door, table: str, version: int | None) -> TableVersion | None:
        opened.append(table)
        return real(door, table, version)

    monkeypatch.setattr(Door, "_opened", seen)
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    assert snapshot.ask(volumes.of_table, NOW)["events"].sum() == 50
    assert opened == ["events"]
    assert snapshot.ask(queries.summary, QUERY).events == 50
    assert {*opened} == {"events", "identities", "rollups", "text_index"}


def test_aggregates_of_another_layout_are_not_counted(root: Path) -> None:
    rollup_table.roll_up(tables.Lake(str(root)), (NOW + timedelta(days=1)).date())
    doubled = pl.read_delta(str(root / "rollups")).with_columns(
        n=pl.col("n") * 2, layout=pl.lit(0, pl.Int32)
    )
    write_deltalake(root / "rollups", doubled, mode="overwrite", partition_by=["part"])
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    assert sum(n for _, n in snapshot.ask(queries.days, replace(QUERY, since=FAR))) == 50
    rollup_table.roll_up(tables.Lake(str(root)), (NOW + timedelta(days=1)).date())
    parts = pl.read_delta(str(root / "rollups")).filter(part="files")
    assert {*parts["layout"]} == {rollup.LAYOUT}
    assert parts["n"].sum() == 50
