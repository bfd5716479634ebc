"""`rollups` and the files of `events` are computed again, and forgeries of either are found."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.integrity.verifier import rollups
from pipelines.integrity.verifier.job import LakeView
from pipelines.lake import rollup, rollup_table, tables
from tests.dashboard import small_lakes
from tests.integrity import matrix

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TODAY = NOON.date()


def land(lake, first=0):
    rows = small_lakes.events(60, end=NOON, days=3.0, first=first, seed=first)
    small_lakes.append(Path(lake.root), rows)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    lake = tables.Lake(str(tmp_path_factory.mktemp("filled")))
    for first in (0, 100):
        land(lake, first)
    rollup_table.roll_up(lake, TODAY)
    return lake


@pytest.fixture
def lake(filled, tmp_path):
    shutil.copytree(filled.root, tmp_path / "lake")
    return tables.Lake(str(tmp_path / "lake"))


def place(lake):
    return LakeView(root=lake.root, memory=Path(lake.root).parent / "memory", keys=[])


def verified(lake, *, full=True):
    return rollups.verify_rollups(place(lake), full=full)


def known(lake):
    """Return the raw tables of all streams in `events`."""
    streams = tables.scan(lake, "events").select("integration", "stream").unique().collect()
    return [f"raw/{integration}/{stream}" for integration, stream in streams.iter_rows()]


def events_verified(lake):
    streams = known(lake)
    return rollups.verify_events(place(lake), lambda: streams)


def test_what_maintenance_wrote_is_right(lake):
    report = verified(lake)
    assert (report.findings, report.first, report.read) == ([], 0, report.size)
    assert report.size > 1
    assert events_verified(lake).ok


def test_a_lake_without_the_tables_has_nothing_to_compare(tmp_path):
    lake = tables.Lake(str(tmp_path))
    assert verified(lake).ok
    assert rollups.verify_events(place(lake), list).ok


def forge(lake, change, table="rollups"):
    """Rewrite the table with changed rows."""
    path = lake.uri(table)
    rows = change(pl.read_delta(path))
    partitions = DeltaTable(path).metadata().partition_columns
    shutil.rmtree(path)
    write_deltalake(path, rows, partition_by=partitions)


def of(part):
    return pl.col("part") == part


def more(rows):
    return rows.with_columns(n=pl.col("n") + of("what").cast(pl.Int64))


def hidden(rows):
    """Deny every trigram, so that no search for a word opens a file."""
    return rows.with_columns(grams=pl.when(of("texts")).then(pl.lit("")).otherwise("grams"))


def later(rows):
    shifted = pl.col("since").dt.offset_by("1d")
    return rows.with_columns(since=pl.when(of("files")).then(shifted).otherwise("since"))


def stray(rows):
    return pl.concat([rows, rows.filter(of("who"))[:1].with_columns(file=pl.lit(99, pl.Int64))])


def twice(rows):
    return pl.concat([rows, rows.filter(of("files"))[:1]])


def swapped(rows):
    """Let the first two groups of a part and file change places, as if others had done it."""
    first = pl.when(pl.col("code") == 0).then(1).when(pl.col("code") == 1).then(0)
    return rows.with_columns(code=first.otherwise("code").cast(pl.Int64))


def shortened(rows):
    return rows.with_columns(codes=pl.col("codes").bin.slice(1))


@matrix.attack("change, remove, duplicate or invent rows of rollups", "ROLLUPS", matrix.AGAIN)
@pytest.mark.parametrize(
    "change",
    [
        more,
        hidden,
        later,
        stray,
        twice,
        swapped,
        shortened,
        lambda rows: rows.filter(~(of("codes") & (pl.col("field") == "who"))),
        lambda rows: rows.with_columns(codes=pl.when(of("codes")).then(pl.lit(b""))),
        lambda rows: rows.with_columns(code=pl.col("code") + of("codes").cast(pl.Int64)),
        lambda rows: rows.filter(~of("whom")),
        lambda rows: rows.filter(of("files")),
        lambda rows: rows.with_columns(actor_email=pl.lit("x@x.io")),
        lambda rows: rows.with_columns(path=pl.col("path").shuffle(1)),
        lambda rows: rows.with_columns(date=pl.col("date").dt.offset_by("1d")),
        lambda rows: rows.with_columns(file=pl.lit(None, pl.Int64)),
    ],
)
def test_a_forged_rollup_is_found(lake, change):
    forge(lake, change)
    assert "rollups" in {finding.kind for finding in verified(lake).findings}


def test_more_trigrams_than_there_are_only_cost_time(lake):
    more = (
        pl.when(of("texts"), pl.col("field") != "disguised")
        .then(pl.col("grams") + "\0zzz")
        .otherwise("grams")
    )
    forge(lake, lambda rows: rows.with_columns(grams=more))
    assert verified(lake).ok


@matrix.attack("hide files behind forged statistics", "STATISTICS", matrix.AGAIN)
def test_forged_statistics_are_found(lake):
    for table, column in (("events", "integration"), ("rollups", "file")):
        log = sorted((Path(lake.uri(table)) / "_delta_log").glob("*.json"))[-1]
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if "add" in line:
                stats = json.loads(line["add"]["stats"])
                value = "zzz" if column == "integration" else 10**6
                stats["minValues"][column] = stats["maxValues"][column] = value
                line["add"]["stats"] = json.dumps(stats)
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "statistics" in {finding.kind for finding in events_verified(lake).findings}
    assert "statistics" in {finding.kind for finding in verified(lake).findings}


@matrix.attack("invent events of a stream without records", "EVENTS", matrix.AGAIN)
def test_events_of_a_stream_without_a_raw_table_are_found(lake):
    streams = known(lake)
    row = tables.scan(lake, "events").head(1).collect().with_columns(stream=pl.lit("invented"))
    small_lakes.append(Path(lake.root), row.to_dicts())
    report = rollups.verify_events(place(lake), lambda: streams)
    (finding,) = report.findings
    assert "1 events of" in finding.detail
    assert "invented, which has no raw table" in finding.detail


@pytest.mark.parametrize(
    ("packed", "rows", "numbers"),
    [
        (b"", 0, []),
        (b"abc", 0, None),
        (b"", 1, None),
        (bytes([1, 2, 3, 0, 1, 0]), 3, [1, 2 + 256, 3]),
        (bytes([1, 2, 3, 0, 1]), 3, None),
        (bytes([5, 0, 0, 0, 0, 0, 1]), 1, [5 + 256**6]),
        (bytes([5, 0, 0, 0, 0, 0, 0, 0]), 1, None),
    ],
)
def test_codes_are_numbers_of_at_most_seven_bytes_for_each_row(packed, rows, numbers):
    found = rollups._numbers(packed, rows)
    assert (None if found is None else found.to_list()) == numbers


def test_files_that_are_gone_or_not_rolled_up_yet_are_no_forgery(lake):
    land(lake, 200)
    assert verified(lake).ok
    DeltaTable(lake.uri("events")).optimize.compact()
    assert verified(lake).ok
    rollup_table.roll_up(lake, TODAY)
    assert verified(lake).ok


def test_a_compaction_during_the_verification_is_no_forgery(lake, monkeypatch):
    real = rollups._check_numbers

    def compact(*arguments):
        DeltaTable(lake.uri("events")).optimize.compact()
        rollup_table.roll_up(lake, TODAY)
        real(*arguments)

    monkeypatch.setattr(rollups, "_check_numbers", compact)
    assert verified(lake).ok


def test_files_that_retention_deletes_during_the_verification_are_no_forgery(lake, monkeypatch):
    real = rollups._check_batch

    def delete(*arguments):
        handle = DeltaTable(lake.uri("events"))
        handle.delete("seq >= 0")
        handle.vacuum(0, dry_run=False, enforce_retention_duration=False)
        real(*arguments)

    monkeypatch.setattr(rollups, "_check_batch", delete)
    assert verified(lake).ok


def test_the_next_run_compares_only_new_files_unless_it_is_a_full_one(lake):
    size = verified(lake, full=False).size
    assert verified(lake, full=False).read == 0
    land(lake, 200)
    rollup_table.roll_up(lake, TODAY)
    report = verified(lake, full=False)
    assert (report.first, report.read) == (size, report.size - size)
    assert verified(lake).read == report.size


def test_the_trigrams_are_those_that_maintenance_stores():
    texts = ["Größe Über", "ABC", "a", "", "x\0y", "İstanbul", "user.session.start", "\x7f~ "]
    for text in texts:
        mine = rollups.trigrams(text)
        stored = rollup._grams(pl.Series([text])) or ""
        assert mine.tolist() == rollups.trigrams(stored).tolist()


@pytest.mark.parametrize(
    "state", [b"", b"7", b"[]", b"{}", b'{"next": null}', b'{"next": "3"}', b'{"next": -1}',
              b'{"next": 1e999}', b'{"next": [1]}', b"[" * 50_000])  # fmt: skip
def test_a_damaged_record_of_the_last_run_only_costs_time(lake, state):
    assert verified(lake).ok
    path = place(lake).memory / "verified" / "rollups.json"
    path.write_bytes(state)
    verdict = verified(lake, full=False)
    assert (verdict.ok, verdict.first) == (True, 0)


@pytest.mark.parametrize("table", ["events", "rollups"])
def test_a_data_file_that_cannot_be_read_is_a_finding(lake, table):
    streams = known(lake)
    for file in Path(lake.uri(table)).rglob("*.parquet"):
        file.write_bytes(b"PAR1")
    if table == "events":
        report = rollups.verify_events(place(lake), lambda: streams)
    else:
        report = verified(lake)
    (found,) = report.findings
    assert (found.kind, found.detail.partition(":")[0]) == ("unreadable", table)
