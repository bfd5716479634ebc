"""Tables about the data files of `events` are opened and read as they are."""

import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from pipelines.integrity.verifier import per_file
from pipelines.integrity.verifier.job import LakeView
from pipelines.schemas import EVENTS
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled") / "lake"
    small_lakes.append(folder, small_lakes.events(60, end=NOON, days=3.0))
    return folder


@pytest.fixture
def place(filled, tmp_path):
    shutil.copytree(filled, tmp_path / "lake")
    return LakeView(root=str(tmp_path / "lake"), memory=tmp_path / "memory", keys=[])


def test_the_batches_are_of_files_that_events_still_has(place):
    files = per_file.event_files(place)
    listed = files.select("path").with_row_index("file")
    stray = pl.concat([listed, pl.DataFrame({"file": [99], "path": ["gone"]}, listed.schema)])
    (batch,) = per_file.batches(place, stray)
    assert batch["file"].to_list() == [0, 1, 2, 3]
    assert list(per_file.batches(place, stray.filter(path="gone"))) == []


def test_batches_of_half_a_million_rows_come_in_the_order_of_their_files(place, monkeypatch):
    rows = [499_999, 1, 250_000, 250_001, 1, *[500_000] * 40]
    files = pl.DataFrame({"path": [f"{number}" for number in range(45)], "rows": rows}).reverse()
    monkeypatch.setattr(per_file, "event_files", lambda _: files)
    listed = files.select("path", file=pl.col("path").cast(pl.Int64))
    batches = [batch["file"].to_list() for batch in per_file.batches(place, listed)]
    assert batches == [[0, 1], [2, 3], [4, 5], *([number] for number in range(6, 45))]


def differing(place, **changes):
    """Return the findings where the statistics are changed so in the Delta log."""
    verdict = per_file.begin("events")
    handle = per_file.opened(place, verdict)
    files = per_file.files_of(handle).with_columns(**changes)
    per_file.check_statistics(place, verdict, handle, files)
    return [(finding.kind, finding.detail) for finding in verdict.findings]


def test_the_statistics_that_the_writer_stored_are_right(place):
    assert differing(place) == []
    assert differing(place, **{"min.seq": pl.col("min.seq") - 1}) == [], "a wider range hides none"
    assert differing(place, **{"min.seq": pl.lit(None, pl.Int64)}) == []


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("min.seq", 1),
        ("max.seq", -1),
        ("min.time", timedelta(milliseconds=1)),
        ("max.time", timedelta(milliseconds=-2)),
        ("max.ingested_at", timedelta(milliseconds=-2)),
        ("num_records", 1),
        ("num_records", -1),
        ("date", timedelta(days=1)),
    ],
)
def test_statistics_that_exclude_a_row_are_found(place, column, change):
    ((kind, detail),) = differing(place, **{column: pl.col(column) + change})
    assert kind == "statistics"
    assert detail.startswith("events: 4 files differ from their statistics, first date=2026-03-0")


@pytest.mark.parametrize("name", ["integration", "stream"])
def test_statistics_that_exclude_a_text_are_found(place, name):
    assert differing(place, **{f"min.{name}": pl.lit("zzz")})
    assert differing(place, **{f"max.{name}": pl.lit("")})


def test_a_time_may_exceed_its_statistics_by_the_milliseconds_that_delta_drops(place):
    row = small_lakes.events(1, end=NOON, days=3.0, first=90)[0]
    time = row["time"].replace(microsecond=1_999)
    small_lakes.append(Path(place.root), [row | {"time": time}])
    assert differing(place) == []


def test_files_are_read_whole_and_each_text_once(place):
    files = per_file.event_files(place)
    events = per_file.scan(place, files["uri"].to_list(), EVENTS, ["date"])
    assert events.select(pl.len()).collect().item() == files["rows"].sum() == 60
    texts = per_file.texts_of(events, "integration").sort().to_list()
    assert texts == ["atlassian", "entra", "google", "okta"]
    assert per_file.scan(place, [], EVENTS, ["date"]).collect().is_empty()


def test_the_first_unverified_file_is_remembered_by_table(place):
    assert per_file.first_unverified(place, "rollups") == 0
    per_file.keep_verified(place, "rollups", 7)
    assert per_file.first_unverified(place, "rollups") == 7
    assert per_file.first_unverified(place, "text_index") == 0
    for damaged in ("", "[]", '{"next": -1}', '{"next": true}', "\udc80"):
        state = place.memory / "verified" / "rollups.json"
        state.write_text(damaged, errors="surrogateescape")
        assert per_file.first_unverified(place, "rollups") == 0
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700


def test_what_cannot_be_read_is_a_finding(place):
    verdict = per_file.begin("events")
    for file in Path(place.root).glob("events/_delta_log/*"):
        file.write_text("no log")
    assert per_file.opened(place, verdict) is None
    assert [finding.kind for finding in per_file.ended(verdict).findings] == ["unreadable"]
    assert 0 <= verdict.seconds < 3_600
    with pytest.raises(ZeroDivisionError), per_file.Reported(verdict):
        _ = 1 / 0
    shutil.rmtree(place.root)
    missing = per_file.begin("events")
    assert per_file.opened(place, missing) is None
    assert missing.ok
