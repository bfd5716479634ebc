"""`text_index` is computed again, and filters that deny a text are found."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.integrity import reports
from pipelines.integrity.verifier import text_index
from pipelines.integrity.verifier.job import LakeView, WorkerPool
from pipelines.lake import tables, text_index_table
from pipelines.lake import text_index as written
from pipelines.search import compiler
from tests.dashboard import small_lakes
from tests.integrity import matrix

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
TODAY = NOON.date()


def land(lake, first=0):
    rows = small_lakes.events(60, end=NOON, days=3.0, first=first, seed=first)
    odd = {"message": "\u0130stanbul \0 \u200badm\u0131n", "target_id": "\U0001d400" * 9}
    small_lakes.append(Path(lake.root), [*rows[:-1], rows[-1] | odd, rows[0] | odd])


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    lake = tables.Lake(str(tmp_path_factory.mktemp("filled")))
    for first in (0, 100):
        land(lake, first)
        text_index_table.index(lake, TODAY)
    return lake


@pytest.fixture
def lake(filled, tmp_path):
    shutil.copytree(filled.root, tmp_path / "lake")
    return tables.Lake(str(tmp_path / "lake"))


def place(lake):
    return LakeView(root=lake.root, memory=Path(lake.root).parent / "memory", keys=[])


def verified(lake, *, full=True):
    return text_index.verify(place(lake), full=full)


def forge(lake, change):
    """Rewrite the table with changed rows."""
    path = lake.uri("text_index")
    rows = change(pl.read_delta(path))
    shutil.rmtree(path)
    write_deltalake(path, rows)


def test_what_maintenance_wrote_is_right(lake):
    report = verified(lake)
    assert (report.findings, report.first, report.read) == ([], 0, report.size)
    assert report.size > 1
    assert "text_index" in reports.derived(place(lake))
    (verdict,) = reports.verdicts(place(lake), ["text_index"], {}, WorkerPool(1))
    assert reports.line(verdict).startswith("text_index: ok, ")


def test_a_lake_without_the_table_has_nothing_to_compare(tmp_path):
    assert verified(tables.Lake(str(tmp_path))).ok


def test_every_searched_column_is_in_a_filter():
    assert {name for names in text_index.FIELDS.values() for name in names} == compiler.EVERYWHERE


def emptied(kind, filler=b""):
    return lambda rows: rows.with_columns(
        pl.lit(filler).alias(name) for name in text_index.FILTERS[kind]
    )


def without_a_bit(rows):
    """Deny one run of one file."""
    first = rows["words_03"][0]
    byte = next(place for place, held in enumerate(first) if held)
    changed = first[:byte] + bytes([first[byte] & first[byte] - 1]) + first[byte + 1 :]
    rest = rows["words_03"].to_list()[1:]
    return rows.with_columns(words_03=pl.Series([changed, *rest], dtype=pl.Binary))


def test_every_bit_of_a_run_is_asked_for():
    words = text_index.FILTERS["words"]
    (run,) = (bits for bits in written.lookup("abcdef").bits if bits)
    asked = text_index.hashes(b"abcdef", 6)
    whole = dict.fromkeys(words, bytes([255]) * 64)
    assert text_index._all_set([*whole.values()], asked, 4)
    assert len(run) == 4
    for column, place in run:
        number = place * 512 >> 32
        denied = bytearray(whole[column])
        denied[number >> 3] &= ~(1 << (number & 7))
        parts = [*(whole | {column: bytes(denied)}).values()]
        assert not text_index._all_set(parts, asked, text_index._BITS["words"])


@matrix.attack("change, exchange or invent filters of text_index", "TEXT_INDEX", matrix.AGAIN)
@pytest.mark.parametrize(
    "change",
    [
        emptied("ids"),
        emptied("words"),
        emptied("words", bytes(8)),
        without_a_bit,
        lambda rows: rows.with_columns(ids_00=pl.col("ids_01")),
        lambda rows: rows.with_columns(path=pl.col("path").reverse()),
        lambda rows: rows.with_columns(date=pl.col("date").dt.offset_by("1d")),
        lambda rows: pl.concat([rows, rows[:1]]),
        lambda rows: pl.concat([rows, rows[:1].with_columns(file=pl.lit(99, pl.Int64))]),
        lambda rows: rows.with_columns(file=pl.lit(None, pl.Int64)),
        lambda rows: rows[:1].with_columns(file=pl.lit(None, pl.Int64)),
    ],
)
def test_a_forged_filter_is_found(lake, change):
    forge(lake, change)
    assert "text_index" in {finding.kind for finding in verified(lake).findings}


def test_what_excludes_nothing_only_costs_time(lake):
    forge(lake, emptied("ids", b"\xff" * 4))
    assert verified(lake).ok
    forge(lake, lambda rows: rows.with_columns(words_00=pl.lit(None, pl.Binary)))
    assert verified(lake).ok
    forge(lake, lambda rows: emptied("words")(rows).with_columns(layout=pl.lit(0, pl.Int32)))
    assert verified(lake).ok
    forge(lake, lambda rows: rows[:1])
    assert verified(lake).ok


def test_files_that_are_gone_or_not_indexed_yet_are_no_forgery(lake):
    land(lake, 200)
    assert verified(lake).ok
    DeltaTable(lake.uri("events")).optimize.compact()
    assert verified(lake).ok


def test_files_that_retention_deletes_during_the_verification_are_no_forgery(lake, monkeypatch):
    real = text_index._check_file

    def delete(*arguments):
        handle = DeltaTable(lake.uri("events"))
        handle.delete("seq >= 0")
        handle.vacuum(0, dry_run=False, enforce_retention_duration=False)
        real(*arguments)

    monkeypatch.setattr(text_index, "_check_file", delete)
    assert verified(lake).ok


def test_forged_statistics_are_found(lake):
    log = sorted((Path(lake.uri("text_index")) / "_delta_log").glob("*.json"))[-1]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "add" in line:
            stats = json.loads(line["add"]["stats"])
            stats["minValues"]["date"] = stats["maxValues"]["date"] = "2020-01-01"
            line["add"]["stats"] = json.dumps(stats)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "statistics" in {finding.kind for finding in verified(lake).findings}


def test_a_quick_run_reads_only_the_filters_that_were_added(lake):
    size = verified(lake, full=False).size
    land(lake, 300)
    text_index_table.index(lake, TODAY)
    report = verified(lake, full=False)
    assert (report.first, report.read, report.ok) == (size, report.size - size, True)
    forge(lake, emptied("ids"))
    assert verified(lake, full=False).ok
    assert not verified(lake).ok
