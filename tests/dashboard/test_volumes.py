"""The volume of streams from the log's statistics is the same as from all rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from polars.testing import assert_frame_equal

from dashboard import volumes
from dashboard.lake import Lake
from dashboard.sight import Sight
from pipelines.schemas import EVENTS
from tests.dashboard import small_lakes

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
STREAMS = [("okta", "system_log"), ("okta", "other"), ("jumpcloud", "directory_insights")]


def _rows(dice: random.Random, streams: list[tuple[str, str]], arrived: datetime) -> pl.DataFrame:
    """Return events of these streams, from long before they arrived or just before."""
    rows = []
    for _ in range(dice.randint(1, 6)):
        integration, stream = dice.choice(streams)
        age = timedelta(seconds=dice.choice([1, 30, 86_400, 86_400 * 10, 86_400 * 30]))
        time = arrived - age * dice.random()
        row = {"integration": integration, "stream": stream, "time": time, "ingested_at": arrived}
        rows.append(small_lakes.blank() | row | {"date": time.date()})
    return pl.DataFrame(rows, schema=EVENTS)


def _lake(root: Path, seed: int) -> pl.DataFrame:
    """Fill a lake with files of one stream and of several; return its rows."""
    dice, found = random.Random(seed), []
    for _ in range(12):
        some = STREAMS if dice.random() < 0.2 else [dice.choice(STREAMS)]
        found.append(_rows(dice, some, NOW - timedelta(days=dice.choice([0, 1, 5, 20]))))
        write_deltalake(root / "events", found[-1], mode="append", partition_by=["date"])
    return pl.concat(found)


@pytest.mark.parametrize("seed", range(6))
def test_statistics_and_rows_tell_the_same(tmp_path: Path, seed: int) -> None:
    rows = _lake(tmp_path, seed)
    snapshot = Lake(str(tmp_path), {}).look()
    assert snapshot
    assert_frame_equal(snapshot.ask(volumes.of_table, NOW), volumes.of_events(rows.lazy(), NOW))
    limited = Lake(str(tmp_path), {}, None, Sight(integrations=frozenset(["okta"]))).look()
    assert limited
    assert_frame_equal(
        limited.ask(volumes.of_table, NOW),
        volumes.of_events(rows.filter(integration="okta").lazy(), NOW),
    )


def test_the_history_of_one_stream_is_not_read(tmp_path: Path) -> None:
    dice = random.Random(0)
    for age in (0, 20):
        rows = _rows(dice, STREAMS[:1], NOW - timedelta(days=age)).with_columns(
            time=pl.col("ingested_at") - timedelta(hours=15),
            date=(pl.col("ingested_at") - timedelta(hours=15)).dt.date(),
        )
        write_deltalake(tmp_path / "events", rows, mode="append", partition_by=["date"])
    opened = Lake(str(tmp_path), {})._open("events")
    assert opened
    for path in (tmp_path / "events").rglob("*.parquet"):
        path.unlink()
    assert volumes.of_table(opened, NOW)["daily"].list.sum().to_list() != [0]


def test_the_delay_is_of_events_that_arrived_as_they_happened() -> None:
    arrived = [NOW - timedelta(hours=2), NOW - timedelta(hours=1)]
    late = [timedelta(days=3), timedelta(seconds=7)]
    rows = [
        small_lakes.blank()
        | {"integration": "okta", "stream": "system_log", "time": at - by, "ingested_at": at}
        | {"date": (at - by).date()}
        for at, by in zip(arrived, late, strict=True)
    ]
    found = volumes.of_events(pl.LazyFrame(rows, schema=EVENTS), NOW)
    assert found["delay"].to_list() == [timedelta(seconds=7)]
    assert (found["events"].item(), found["last_event"].item()) == (2, rows[1]["time"])
