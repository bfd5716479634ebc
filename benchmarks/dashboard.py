"""How long Explore's questions take on a large lake, beside DuckDB on the same files.

Run it from the repository: `.venv/bin/python benchmarks/dashboard.py`. It makes lakes of 200
thousand and 10 million events over two years (`--events` chooses) under `--root`, which it keeps,
and rolls them up as maintenance does. Each question is put by both, best of three, on 30 days and
on everything: milliseconds by the clock, `first` being the first time in a process, and of all
processors together; `ratio` is ours by DuckDB's of the latter, which says the same on a machine
that has other work. Memory is the most that a process had which put one side's questions only.
"""
# ruff: noqa: S608 the questions are ours

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from deltalake import DeltaTable

# This file must not stand for the package of its name.
sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import generated  # noqa: E402
from benchmarks.generated import ACTOR, SINCE, TEXT, UNTIL  # noqa: E402
from dashboard import fields, queries, times  # noqa: E402
from dashboard.lake import Lake, Snapshot  # noqa: E402
from dashboard.queries import Filter, Query  # noqa: E402
from pipelines.lake import rollup_table, tables  # noqa: E402
from pipelines.lake.rollup import SEARCHED  # noqa: E402

SIZES = (200_000, 10_000_000)
WEEKS = timedelta(days=30)
FACETS = (*fields.FILTERS, *fields.MORE_FILTERS)
_SAID = {
    "actor": "coalesce(nullif(actor_email, ''), nullif(actor_name, ''), nullif(actor_id, ''))",
    "target": "coalesce(nullif(target_name, ''), nullif(target_id, ''))",
    "title": "coalesce(nullif(message, ''), nullif(action, ''))",
}
_ACTOR = _SAID["actor"]
_LISTED = f"event_uid, date, time, {_SAID['title']}, integration, activity_type, action, {_ACTOR}, "
_LISTED += f"{_SAID['target']}, outcome, source_ip, country"
_NEWEST = "ORDER BY time DESC, event_uid DESC LIMIT 500"
_ROUNDS = 3
_LONG = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Milliseconds by the clock, the first time and at best, and of all processors together."""

    first: float
    best: float
    cpu: float


Times = dict[str, Taken]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    name: str
    ours: Callable[[], object]
    sql: str
    """Statements apart by semicolons."""


def questions(snapshot: Snapshot, since: datetime) -> Iterator[Question]:
    """Those of a page of Explore from `since` on, each in both languages."""
    query = Query(since=since, until=UNTIL)
    counts = snapshot.counts
    edges = times.edges(since, UNTIL, times.zone("UTC"))
    seconds = int(times.tick(edges).total_seconds())
    tick = f"to_timestamp(epoch(time)::BIGINT // {seconds} * {seconds})"
    yield Question(
        name="count",
        ours=lambda: queries.days(counts, query),
        sql="SELECT date, count(*) FROM e GROUP BY date",
    )
    yield Question(
        name="totals",
        ours=lambda: queries.summary(counts, query),
        sql=f"SELECT count(*), count(DISTINCT {_ACTOR}), count(DISTINCT nullif(source_ip, '')), "
        "count(*) FILTER (outcome = 'failure') FROM e",
    )
    for field in ("activity_type", "actor"):
        yield Question(
            name=f"graph by {field}",
            ours=lambda field=field: _graph(counts, query, field, edges),
            sql=f"SELECT {tick} AS bucket, {_said(field)} AS v, count(*) FROM e GROUP BY ALL",
        )
    for field in FACETS:
        yield Question(
            name=f"facet {field}",
            ours=lambda field=field: queries.values(counts, query, field, 500),
            sql=f"SELECT {_said(field)} AS v, count(*) AS n FROM e GROUP BY v "
            "ORDER BY n DESC, v LIMIT 500",
        )
    yield Question(
        name="first page",
        ours=lambda: _first_page(counts, query),
        sql=f"SELECT {_LISTED} FROM e {_NEWEST}",
    )
    one = Query(since=since, until=UNTIL, filters=(Filter(field="actor", value=ACTOR),))
    yield Question(
        name="one actor",
        ours=lambda: _first_page(counts, one),
        sql=f"SELECT {_LISTED} FROM e WHERE {_ACTOR} = '{ACTOR}' {_NEWEST}",
    )
    yield Question(
        name="one actor, totals and graph",
        ours=lambda: _sums(_anew(counts), one, edges),
        sql=_sums_in_sql(tick, f"{_ACTOR} = '{ACTOR}'"),
    )
    texts = Query(since=since, until=UNTIL, text=TEXT)
    names = "list_aggregate(list_transform(targets, lambda t: t.name), 'string_agg')"
    found = " OR ".join(f"contains(lower({said}), '{TEXT}')" for said in (*SEARCHED, names))
    yield Question(
        name="text search, page",
        ours=lambda: _first_page(_anew(counts), texts),
        sql=f"SELECT date, count(*) FROM e WHERE {found} GROUP BY date; "
        f"SELECT {_LISTED} FROM e WHERE {found} {_NEWEST}",
    )
    yield Question(
        name="text search, totals and graph",
        ours=lambda: _sums(_anew(counts), texts, edges),
        sql=_sums_in_sql(tick, found),
    )
    day, uid = _some(snapshot)
    yield Question(
        name="detail",
        ours=lambda: queries.event(snapshot.events, day, uid),
        sql=f"SELECT * FROM e WHERE date = DATE '{day}' AND event_uid = '{uid}'",
    )


def _sums_in_sql(tick: str, condition: str) -> str:
    return (
        f"SELECT count(*), count(DISTINCT {_ACTOR}), count(DISTINCT nullif(source_ip, '')), "
        f"count(*) FILTER (outcome = 'failure') FROM e WHERE {condition}; "
        f"SELECT {tick} AS bucket, {_said('activity_type')} AS v, count(*) FROM e "
        f"WHERE {condition} GROUP BY ALL"
    )


def _sums(counts: queries.Counts, query: Query, edges: tuple[datetime, ...]) -> object:
    """The line above the graph, and the graph: from one reading, as on the page."""
    return queries.summary(counts, query), _graph(counts, query, "activity_type", edges)


def _said(field: str) -> str:
    return _SAID.get(field, f"nullif({field}, '')")


def _anew(counts: Any) -> queries.Counts:
    """The same with nothing remembered of a question put before."""
    counts._tally.cache_clear()
    found: queries.Counts = counts
    return found


def _first_page(counts: queries.Counts, query: Query) -> pl.DataFrame:
    return queries.page(counts, query, 1, queries.days(counts, query))


def _graph(
    counts: queries.Counts, query: Query, field: str, edges: tuple[datetime, ...]
) -> pl.DataFrame:
    top = tuple(queries.values(counts, query, field, 8)["value"])
    return queries.activity(counts, query, field, top, edges)


def _some(snapshot: Snapshot) -> tuple[Any, str]:
    day = UNTIL.date() - timedelta(days=3)
    found = snapshot.events.filter(pl.col("date") == day).select("event_uid").head(1)
    return day, found.collect().item()


def measured(work: Callable[[], object]) -> Taken:
    """The best of some; what takes long is done once."""
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < _ROUNDS and sum(wall) < _LONG:
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return Taken(first=wall[0], best=min(wall), cpu=min(cpu))


def put(root: Path, since: datetime, *, peer: bool) -> Times:
    """The times of each question, ours or DuckDB's."""
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    files = DeltaTable(root / "events").file_uris()
    span = f"time >= TIMESTAMPTZ '{since}' AND time < TIMESTAMPTZ '{UNTIL}'"
    days = f"date >= DATE '{since.date()}'"
    connection.execute(
        f"CREATE VIEW e AS SELECT * FROM read_parquet({files}, hive_partitioning = true) "
        f"WHERE {days} AND {span}"
    )
    return {
        one.name: measured((lambda one=one: _told(connection, one.sql)) if peer else one.ours)
        for one in questions(snapshot, since)
    }


def _told(connection: duckdb.DuckDBPyConnection, sql: str) -> list[object]:
    return [connection.execute(statement).fetchall() for statement in sql.split("; ")]


def _in_process(root: Path, since: datetime, peer: bool, answer: Any) -> None:
    figures = put(root, since, peer=peer)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    answer.put((figures, int(status.partition("VmHWM:")[2].split()[0]) / 1024))


def asked(root: Path, since: datetime, *, peer: bool) -> tuple[Times, float]:
    """In a process of its own: the times, and the most memory it had in MB."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_in_process, args=(root, since, peer, answer))
    process.start()
    found: tuple[Times, float] = answer.get()
    process.join()
    return found


def report(root: Path, events: int) -> None:
    for span, since in (("30 days", UNTIL - WEEKS), ("everything", SINCE)):
        ours, memory = asked(root, since, peer=False)
        theirs, other = asked(root, since, peer=True)
        print(
            f"\n{f'{events:,} events, {span}':<32}    first   clock  DuckDB    CPU  DuckDB  ratio"
        )
        for name, taken in ours.items():
            peer = theirs[name]
            print(
                f"  {name:<30} {taken.first:>8.0f} {taken.best:>7.0f} {peer.best:>7.0f} "
                f"{taken.cpu:>7.0f} {peer.cpu:>7.0f}  {taken.cpu / max(1, peer.cpu):5.2f}"
            )
        print(f"  {'most memory, MB':<39} {memory:>7.0f} {other:>7.0f}", flush=True)


def rolled_up(root: Path) -> Path:
    start, before = time.perf_counter(), rollup_table.rolled_up(tables.Lake(str(root)))[1]
    rollup_table.roll_up(tables.Lake(str(root)), UNTIL.date())
    if not before:
        print(f"{root.name}: rolled up in {time.perf_counter() - start:.0f} s", flush=True)
    return root


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, nargs="*", default=list(SIZES))
    options.add_argument("--root", type=Path, default=Path(".cache/benchmark-dashboard"))
    given = options.parse_args()
    for events in given.events:
        report(rolled_up(generated.lake(given.root, events)), events)


if __name__ == "__main__":
    main()
