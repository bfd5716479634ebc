"""Generates a lake of any size: two years of events of a company with five thousand people.

A few people and programs cause most events, most actions are rare, everybody uses the offices' and
a few other IP addresses, and two events rarely touch the same document. The random numbers are
seeded, so every run generates the same lake. There is one data file per day, as after maintenance.
The variable BENCHMARK_DAYS makes it fewer days.
"""

from __future__ import annotations

import functools
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import (
    BloomFilterProperties,
    ColumnProperties,
    DeltaTable,
    WriterProperties,
    write_deltalake,
)

from pipelines.schemas import EVENTS

DAYS = int(os.environ.get("BENCHMARK_DAYS", "730"))
UNTIL = datetime(2026, 11, 23, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=DAYS)
ACTOR = "person00042@acme.example"
TEXT = "quarterly"
_AT_ONCE = 1_000_000
_PEOPLE, _PROGRAMS, _OFFICES, _DOCUMENTS, _APPLICATIONS = 5000, 60, 20, 400_000, 200
_ACTIONS = 120
_KINDS = ["okta", "google_workspace", "entra_id", "office_365", "cloudflare", "atlassian"]
_CLASSES = ["Authentication", "File Hosting Activity", "Account Change", "API Activity"]
_CLASSES += ["Web Resources Activity", "Group Management", "Entity Management", "HTTP Activity"]
_HOURS = [1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 12, 13, 14, 13, 12, 9, 6, 4, 3, 2, 2, 1]


def lake(folder: Path, events: int) -> Path:
    """Return the folder of a lake with that many events; generate it if it does not exist."""
    root = folder / f"events-{events}"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        counts = np.diff(np.arange(DAYS + 1) * events // DAYS)
        step = max(1, _AT_ONCE * DAYS // events)
        for first in range(0, DAYS, step):
            _append(root, _events(first, counts[first : first + step]))
        DeltaTable(root / "events").create_checkpoint()
        (root / "complete").touch()
    return root


def _append(root: Path, rows: pl.DataFrame) -> None:
    write_deltalake(
        root / "events",
        rows,
        mode="append",
        partition_by=["date"],
        configuration={"delta.dataSkippingStatsColumns": "integration,stream,seq,time,ingested_at"},
        writer_properties=WriterProperties(
            compression="ZSTD",
            compression_level=1,
            # For DuckDB, which uses them where a column is equal to a value.
            column_properties={
                name: ColumnProperties(bloom_filter_properties=BloomFilterProperties(True, 0.01))
                for name in ("event_id", "correlation_id", "session_id", "actor_email")
            },
        ),
    )


def _events(first: int, counts: np.ndarray) -> pl.DataFrame:
    """Return the events of consecutive days, `counts[i]` of day `first + i`, sorted by time."""
    n, dice = int(counts.sum()), np.random.default_rng(first)
    day = np.repeat(np.arange(first, first + counts.size), counts)
    who = np.where(
        dice.random(n) < 0.3,
        _PEOPLE + _skewed(dice, n, _PROGRAMS, 2),
        _skewed(dice, n, _PEOPLE, 3),
    )
    what = _skewed(dice, n, _ACTIONS, 3)
    office = dice.random(n) < 0.4
    where = np.where(office, who % _OFFICES, _OFFICES + who * 4 + _skewed(dice, n, 4, 2))
    document = _skewed(dice, n, _DOCUMENTS, 2)
    whom = np.where(what % 8 == 0, _DOCUMENTS + what * who % _APPLICATIONS, document)
    drawn = pl.DataFrame(
        {
            "time": _times(day, dice),
            "delay": 2_000_000 + dice.integers(0, 90_000_000, n),
            "number": dice.integers(2**63, 2**64, n, dtype=np.uint64),
            "request": dice.integers(2**63, 2**64, n, dtype=np.uint64),
            "failed": dice.random(n) < 0.06,
            "who": who,
            "what": what,
            "where": where,
            "whom": whom,
            "seq": np.arange(n),
        }
    )
    return _columns(drawn)


def _skewed(dice: np.random.Generator, n: int, of: int, power: int) -> np.ndarray:
    """Return `n` numbers below `of`; the higher the power, the more of them are small."""
    return np.floor(dice.random(n) ** power * of).astype(np.int64)


def _times(day: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Return sorted times on these days in µs since 1970, with more at noon than at midnight."""
    # Invert the cumulative distribution of the hours of a day.
    reached = np.concatenate([[0.0], np.cumsum(_HOURS) / sum(_HOURS)])
    hours = np.interp(dice.random(day.size), reached, np.arange(25))
    within = np.minimum((hours * 3.6e9).astype(np.int64), 86_400_000_000 - 1)
    return np.sort(int(SINCE.timestamp()) * 1_000_000 + day * 86_400_000_000 + within)


def _columns(drawn: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of `events` for the drawn numbers."""
    wide = (
        drawn.with_columns(time=pl.col("time").cast(pl.Datetime("us", "UTC")))
        .join(_people(), on="who", how="left", maintain_order="left")
        .join(_actions(), on="what", how="left", maintain_order="left")
        .join(_addresses(), on="where", how="left", maintain_order="left")
        .join(_things(), on="whom", how="left", maintain_order="left")
        .with_columns(event_id=pl.col("number").cast(pl.String))
    )
    failed = pl.col("failed")
    derived = {
        "date": pl.col("time").dt.date(),
        "event_uid": pl.concat_str("integration", "stream", "event_id", separator=":"),
        "ingested_at": pl.col("time") + pl.duration(microseconds="delay"),
        "targets": pl.concat_list(
            pl.struct(id="target_id", name="target_name", type="target_type")
        ),
        "outcome": pl.when(failed).then(pl.lit("failure")).otherwise(pl.lit("success")),
        "outcome_reason": pl.when(failed).then(pl.lit("INVALID_CREDENTIALS")),
        "severity": pl.when(failed).then(pl.lit("warn")).otherwise(pl.lit("info")),
        "message": pl.concat_str("phrase", "target_name", separator=" "),
        "session_id": pl.concat_str(
            pl.lit("s"), (pl.col("who") * 8 + pl.col("time").dt.hour() // 4).hash()
        ),
        "correlation_id": pl.when(pl.col("what") % 2 == 0).then(pl.col("request").cast(pl.String)),
        "mapping_version": pl.lit(1),
    }
    columns = wide.with_columns(**derived)
    return columns.select(pl.col(name).cast(dtype) for name, dtype in EVENTS.items())


@functools.cache
def _people() -> pl.DataFrame:
    who = pl.int_range(_PEOPLE + _PROGRAMS, eager=True).alias("who").to_frame()
    person = pl.col("who") < _PEOPLE
    number = pl.col("who").cast(pl.String).str.zfill(5)
    return who.select(
        "who",
        actor_id=pl.format("00u{}", pl.col("who").hash()),
        actor_name=pl.when(person)
        .then(pl.format("Person {}", number))
        .otherwise(pl.format("Program {}", number)),
        actor_email=pl.when(person).then(pl.format("person{}@acme.example", number)),
        actor_type=pl.when(person).then(pl.lit("user")).otherwise(pl.lit("api_key")),
        user_agent=pl.format(
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{}.0.0.0",
            100 + pl.col("who") % 40,
        ),
    )


@functools.cache
def _actions() -> pl.DataFrame:
    what = pl.int_range(_ACTIONS, eager=True).alias("what").to_frame()
    kind = (pl.col("what") % 6).replace_strict(range(6), _KINDS, return_dtype=pl.String)
    return what.select(
        "what",
        integration=kind,
        kind=kind,
        stream=pl.when(pl.col("what") % 12 < 6)
        .then(pl.lit("system_log"))
        .otherwise(pl.lit("audit")),
        action=pl.format("service.object{}.verb{}", pl.col("what") % 20, pl.col("what")),
        activity_type=(pl.col("what") % 8).replace_strict(range(8), _CLASSES),
        action_type=pl.format("Activity {}", pl.col("what") % 23),
        class_uid=3001 + pl.col("what") % 8,
        activity_id=pl.col("what") % 23,
        phrase=pl.format("Did thing {} with", pl.col("what")),
    )


@functools.cache
def _addresses() -> pl.DataFrame:
    where = pl.int_range(_OFFICES + 4 * (_PEOPLE + _PROGRAMS), eager=True).alias("where")
    place = pl.col("where") % 97
    return where.to_frame().select(
        "where",
        source_ip=pl.format(
            "203.{}.{}.{}",
            pl.col("where") % 7,
            pl.col("where") // 7 % 250,
            pl.col("where") % 251,
        ),
        city=pl.format("City {}", place),
        country=(place % 12).replace_strict(
            range(12),
            ["GB", "GB", "GB", "DE", "DE", "US", "US", "US", "FR", "IE", "NL", None],
            return_dtype=pl.String,
        ),
    )


@functools.cache
def _things() -> pl.DataFrame:
    whom = pl.int_range(_DOCUMENTS + _APPLICATIONS, eager=True).alias("whom").to_frame()
    number, document = pl.col("whom"), pl.col("whom") < _DOCUMENTS
    return whom.select(
        "whom",
        target_id=pl.format("t{}", number.hash()),
        target_name=pl.when(~document)
        .then(pl.format("Application {}", number))
        .when(number % 500 == 7)
        .then(pl.format("Quarterly report {}", number))
        .otherwise(pl.format("Document {}", number)),
        target_type=pl.when(document).then(pl.lit("document")).otherwise(pl.lit("application")),
    )
