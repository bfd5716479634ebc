"""How long Explore's questions take on a large lake, beside DuckDB on the same files.

Run it from the repository: `.venv/bin/python benchmarks/dashboard.py`. It makes a lake of 200
thousand and one of 10 million events over two years, `--hundred-million` one more, and keeps them
under `--folder`. Each question is put by both, best of three, on 30 days and on everything;
`ratio` is ours by DuckDB's time, so less than 1 is faster. Memory is that of a process which put
our questions only.
"""
# ruff: noqa: S608 the questions are ours

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from deltalake import DeltaTable, WriterProperties, write_deltalake

# This file must not stand for the package of its name.
sys.path[0] = str(Path(__file__).parents[1])

from dashboard import fields, queries, times  # noqa: E402
from dashboard.lake import Lake, Snapshot  # noqa: E402
from dashboard.queries import Filter, Query  # noqa: E402
from pipelines.event import EVENTS  # noqa: E402

SIZES = (200_000, 10_000_000)
HUNDRED_MILLION = 100_000_000
DAYS = 730
UNTIL = datetime(2026, 11, 23, tzinfo=UTC)
WEEKS = timedelta(days=30)
TEXT = "quarterly"
ACTOR = "person00042@acme.example"
_ACTOR = "coalesce(nullif(actor_email, ''), nullif(actor_name, ''), nullif(actor_id, ''))"
_TARGET = "coalesce(nullif(target_name, ''), nullif(target_id, ''))"
_TITLE = "coalesce(nullif(message, ''), nullif(action, ''))"
_ROUNDS = 3


def lake_of(folder: Path, events: int) -> Path:
    """The lake of that many events, made where it is not there yet."""
    root = folder / f"events-{events}"
    if not (root / "complete").exists():
        each = events // DAYS
        for day in range(DAYS):
            on = UNTIL.date() - timedelta(days=DAYS - day)
            n = events - each * (DAYS - 1) if day == DAYS - 1 else each
            _append(root, _events(on, n, seed=day))
        (root / "complete").touch()
    return root


def _append(root: Path, rows: pl.DataFrame) -> None:
    write_deltalake(
        root / "events",
        rows,
        mode="append",
        partition_by=["date"],
        configuration={"delta.dataSkippingStatsColumns": "integration,stream,seq,time,ingested_at"},
        writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
    )


def _events(on: date, n: int, *, seed: int) -> pl.DataFrame:
    """A day's events in the order of arrival: some values frequent, most rare."""
    rows = pl.int_range(n, eager=True).alias("n").to_frame().lazy()
    dice = {name: _dice(f"{seed}/{name}") for name in ("who", "what", "thing", "ip", "fails")}
    kinds = ["okta", "google_workspace", "entra_id", "office_365", "cloudflare", "atlassian"]
    person = (dice["who"] ** 3 * 5000).floor().cast(pl.Int64)
    thing = (dice["thing"] ** 3 * 40_000).floor().cast(pl.Int64)
    address = (dice["ip"] ** 2 * 20_000).floor().cast(pl.Int64)
    what = (dice["what"] ** 2 * 60).floor().cast(pl.Int64)
    failed = dice["fails"] > 0.93
    when = pl.lit(datetime.combine(on, datetime.min.time(), UTC)).dt.cast_time_unit("us")
    named = pl.format("person{}", person.cast(pl.String).str.zfill(5))
    action = pl.format("service.action.{}", what)
    integration = (what % 6).replace_strict(range(6), kinds, return_dtype=pl.String)
    columns = {
        "time": when + pl.duration(microseconds=pl.col("n") * (86_399_000_000 // max(n, 1))),
        "date": pl.lit(on),
        "integration": integration,
        "kind": integration,
        "stream": pl.lit("audit"),
        "event_id": pl.format("{}-{}", pl.lit(on.isoformat()), pl.col("n")),
        "seq": pl.col("n").cast(pl.Int64),
        "activity_type": pl.format("Activity {}", what % 9),
        "action_type": pl.format("Type {}", what % 23),
        "action": action,
        "class_uid": (3001 + what % 9).cast(pl.Int32),
        "activity_id": (what % 23).cast(pl.Int32),
        "actor_id": pl.format("00u{}", person),
        "actor_name": named,
        "actor_email": pl.format("{}@acme.example", named),
        "actor_type": pl.lit("user"),
        "target_id": pl.format("t-{}", thing),
        "target_name": pl.when(thing % 500 == 0)
        .then(pl.format("Quarterly report {}", thing))
        .otherwise(pl.format("Document {}", thing)),
        "target_type": pl.lit("document"),
        "outcome": pl.when(failed).then(pl.lit("failure")).otherwise(pl.lit("success")),
        "outcome_reason": pl.when(failed).then(pl.lit("INVALID_CREDENTIALS")),
        "source_ip": pl.format("203.{}.{}.{}", address % 4, address // 4 % 250, address % 250),
        "user_agent": pl.format("Mozilla/5.0 (X11; Linux x86_64) Chrome/{}.0", 100 + person % 40),
        "city": pl.format("City {}", address % 50),
        "country": (address % 5).replace_strict(range(5), ["GB", "DE", "US", "FR", "IE"]),
        "severity": pl.lit("info"),
        "message": pl.format("{} did {} to a document", named, action),
        "mapping_version": pl.lit(1, pl.Int32),
    }
    made = rows.select(**columns).with_columns(
        event_uid=pl.format("{}:audit:{}", "integration", "event_id"),
        ingested_at=pl.col("time") + pl.duration(seconds=40),
    )
    return made.select(_column(name, dtype, columns) for name, dtype in EVENTS.items()).collect()


def _column(name: str, dtype: pl.DataType, made: dict[str, pl.Expr]) -> pl.Expr:
    known = name in made or name in ("event_uid", "ingested_at")
    return (pl.col(name) if known else pl.lit(None)).cast(dtype).alias(name)


def _dice(seed: str) -> pl.Expr:
    """A number from 0 to 1 a row, the same in every run."""
    return (pl.col("n").hash(seed=_hash_of(seed)) % 1_000_003) / 1_000_003.0


def _hash_of(text: str) -> int:
    return sum(ord(c) * 131**i for i, c in enumerate(text)) % 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    name: str
    ours: Callable[[], object]
    sql: str


def questions(snapshot: Snapshot, since: datetime) -> Iterator[Question]:
    """Those of a page of Explore from `since` on, each in both languages."""
    query = Query(since=since, until=UNTIL)
    zone = times.zone("UTC")
    edges = times.edges(since, UNTIL, zone)
    tick = f"to_timestamp(epoch(time)::BIGINT // {_seconds(edges)} * {_seconds(edges)})"
    top = tuple(queries.values(snapshot.events, query, "activity_type", 8)["value"])
    yield Question(
        name="count",
        ours=lambda: queries.days(snapshot.events, query),
        sql="SELECT date, count(*) FROM e GROUP BY date",
    )
    yield Question(
        name="totals",
        ours=lambda: queries.summary(snapshot.events, query),
        sql=f"SELECT count(*), count(DISTINCT {_ACTOR}), count(DISTINCT nullif(source_ip, '')), "
        "count(*) FILTER (outcome = 'failure') FROM e",
    )
    yield Question(
        name="graph",
        ours=lambda: (
            queries.values(snapshot.events, query, "activity_type", 8),
            queries.activity(snapshot.events, query, "activity_type", top, edges),
        ),
        sql=f"SELECT {tick} AS bucket, activity_type, count(*) FROM e GROUP BY ALL",
    )
    for field, column in (("integration", "integration"), ("actor", _ACTOR), ("action", "action")):
        yield Question(
            name=f"facet {field}",
            ours=lambda field=field: queries.values(snapshot.events, query, field, 500),
            sql=f"SELECT {column} AS v, count(*) AS n FROM e GROUP BY v "
            "ORDER BY n DESC, v LIMIT 500",
        )
    listed = f"event_uid, date, time, {_TITLE}, integration, activity_type, action, {_ACTOR}, "
    listed += f"{_TARGET}, outcome, source_ip, country"
    newest = "ORDER BY time DESC, event_uid DESC LIMIT 500"
    yield Question(
        name="first page",
        ours=lambda: _first_page(snapshot, query),
        sql=f"SELECT {listed} FROM e {newest}",
    )
    one = Query(since=since, until=UNTIL, filters=(Filter(field="actor", value=ACTOR),))
    yield Question(
        name="one actor",
        ours=lambda: _first_page(snapshot, one),
        sql=f"SELECT {listed} FROM e WHERE {_ACTOR} = '{ACTOR}' {newest}",
    )
    texts = Query(since=since, until=UNTIL, text=TEXT)
    columns = (
        *fields.SEARCHED,
        "list_aggregate(list_transform(targets, t -> t.name), 'string_agg')",
    )
    found = " OR ".join(f"contains(lower({column}), '{TEXT}')" for column in columns)
    yield Question(
        name="text search",
        ours=lambda: _first_page(snapshot, texts),
        sql=f"SELECT {listed} FROM e WHERE {found} {newest}",
    )
    day = UNTIL.date() - timedelta(days=3)
    uid = f"okta:audit:{day}-0"
    yield Question(
        name="detail",
        ours=lambda: queries.event(snapshot.events, day, uid),
        sql=f"SELECT * FROM e WHERE date = DATE '{day}' AND event_uid = '{uid}'",
    )


def _first_page(snapshot: Snapshot, query: Query) -> pl.DataFrame:
    return queries.page(snapshot.events, query, 1, queries.days(snapshot.events, query))


def _seconds(edges: tuple[datetime, ...]) -> int:
    return int(times.tick(edges).total_seconds())


def measured(work: Callable[[], object]) -> float:
    """Milliseconds, the best of some."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best * 1000


def put(root: Path, since: datetime, *, peer: bool) -> dict[str, float]:
    """The time of each question, ours or DuckDB's."""
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    files = DeltaTable(root / "events").file_uris()
    span = f"time >= TIMESTAMPTZ '{since}' AND time < TIMESTAMPTZ '{UNTIL}'"
    days = f"date >= DATE '{since.date()}'"
    connection.execute(
        f"CREATE VIEW e AS SELECT * FROM read_parquet({files}, hive_partitioning = true) "
        f"WHERE {days} AND {span}"
    )
    return {
        one.name: measured(
            (lambda one=one: connection.execute(one.sql).fetchall()) if peer else one.ours
        )
        for one in questions(snapshot, since)
    }


def _in_process(root: Path, since: datetime, peer: bool, answer: Any) -> None:
    figures = put(root, since, peer=peer)
    answer.put((figures, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def asked(root: Path, since: datetime, *, peer: bool) -> tuple[dict[str, float], float]:
    """In a process of its own: the times, and the most memory it had in MB."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_in_process, args=(root, since, peer, answer))
    process.start()
    found: tuple[dict[str, float], float] = answer.get()
    process.join()
    return found


def report(root: Path, events: int) -> None:
    for span, since in (("30 days", UNTIL - WEEKS), ("everything", UNTIL - timedelta(days=DAYS))):
        ours, memory = asked(root, since, peer=False)
        theirs, other = asked(root, since, peer=True)
        print(f"\n{events:,} events, {span}   {'ours':>9} {'DuckDB':>9}  ratio")
        for name, milliseconds in ours.items():
            ratio = milliseconds / theirs[name]
            print(f"  {name:<24} {milliseconds:>9.0f} {theirs[name]:>9.0f}  {ratio:5.2f}")
        print(f"  {'peak memory, MB':<24} {memory:>9.0f} {other:>9.0f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, nargs="*", default=list(SIZES))
    options.add_argument("--hundred-million", action="store_true")
    options.add_argument("--folder", type=Path, default=Path(".cache/benchmark-dashboard"))
    given = options.parse_args()
    for events in [*given.events, *([HUNDRED_MILLION] if given.hundred_million else [])]:
        report(lake_of(given.folder, events), events)


if __name__ == "__main__":
    main()
