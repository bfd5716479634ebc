"""Time Explore's queries on a large lake, compared with DuckDB on the same files.

Run it from the repository: `.venv/bin/python benchmarks/dashboard.py`. It creates lakes of 200
thousand and 10 million events over two years (choose with `--events`) under `--root`, keeps them
for the next run, and rolls them up as maintenance does. Each query runs at most three times on each
side, over 30 days and over everything, and the best time is printed in ms: wall-clock (`first` is
the first run in a process) and CPU of all cores. `ratio` is our CPU time divided by DuckDB's,
which hardly depends on the load of the machine. Each side runs in processes of its own, whose peak
memory is printed last.
"""
# ruff: noqa: S608 all parts of the queries are constants of this file

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

# This file would shadow the package `dashboard` if its folder stayed on the path.
sys.path[0] = str(Path(__file__).parents[1])

from benchmarks import generated  # noqa: E402
from benchmarks.generated import ACTOR, SINCE, TEXT, UNTIL  # noqa: E402
from dashboard import fields, listing, queries, times  # noqa: E402
from dashboard.lake import Lake, Snapshot  # noqa: E402
from dashboard.queries import Filter, Query  # noqa: E402
from pipelines.lake import rollup_table, tables, text_index_table  # noqa: E402
from pipelines.search.fields import SEARCHED  # noqa: E402

SIZES = (200_000, 10_000_000)
WEEKS = timedelta(days=30)
FACETS = (*fields.FILTERS, *fields.MORE_FILTERS)
_SQL = {
    "actor": "coalesce(nullif(actor_email, ''), nullif(actor_name, ''), nullif(actor_id, ''))",
    "target": "coalesce(nullif(target_name, ''), nullif(target_id, ''))",
    "title": "coalesce(nullif(message, ''), nullif(action, ''))",
}
_ACTOR = _SQL["actor"]
_LISTED = f"event_uid, date, time, {_SQL['title']}, integration, activity_type, action, {_ACTOR}, "
_LISTED += f"{_SQL['target']}, outcome, source_ip, country"
_NEWEST = "ORDER BY time DESC, event_uid DESC LIMIT 500"
FREQUENT, RARE, NOWHERE = "document", "Document 399998", "99887766554433221100"
_ROUNDS = 3
_LONG = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Milliseconds: wall-clock time of the first and the best run, and CPU time of all cores."""

    first: float
    best: float
    cpu: float


Times = dict[str, Taken]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    name: str
    ours: Callable[[], object]
    sql: str
    """Statements, separated by semicolons."""


def questions(snapshot: Snapshot, since: datetime) -> Iterator[Question]:
    """Yield the queries behind a page of Explore from `since` on, each also in SQL."""
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
            sql=f"SELECT {tick} AS bucket, {_sql(field)} AS v, count(*) FROM e GROUP BY ALL",
        )
    for field in FACETS:
        yield Question(
            name=f"facet {field}",
            ours=lambda field=field: queries.values(counts, query, field, 500),
            sql=f"SELECT {_sql(field)} AS v, count(*) AS n FROM e GROUP BY v "
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
        ours=lambda: _sums(_uncached(counts), one, edges),
        sql=_sums_in_sql(tick, f"{_ACTOR} = '{ACTOR}'"),
    )
    yield from _rare(counts, snapshot, since)
    texts = Query(since=since, until=UNTIL, text=TEXT)
    found = _contains(TEXT)
    yield Question(
        name="text search, newest events",
        ours=lambda: listing.newest_so_far(_uncached(counts), texts),
        sql=f"SELECT {_LISTED} FROM e WHERE {found} {_NEWEST}",
    )
    frequent = Query(since=since, until=UNTIL, text=FREQUENT)
    yield Question(
        name="frequent word, newest events",
        ours=lambda: listing.newest_so_far(_uncached(counts), frequent),
        sql=f"SELECT {_LISTED} FROM e WHERE {_contains(FREQUENT)} {_NEWEST}",
    )
    yield Question(
        name="frequent word, totals and graph",
        ours=lambda: _sums(_uncached(counts), frequent, edges),
        sql=_sums_in_sql(tick, _contains(FREQUENT)),
    )
    yield Question(
        name="text search, page",
        ours=lambda: _first_page(_uncached(counts), texts),
        sql=f"SELECT date, count(*) FROM e WHERE {found} GROUP BY date; "
        f"SELECT {_LISTED} FROM e WHERE {found} {_NEWEST}",
    )
    yield Question(
        name="text search, totals and graph",
        ours=lambda: _sums(_uncached(counts), texts, edges),
        sql=_sums_in_sql(tick, found),
    )
    day, uid = _some(snapshot)
    yield Question(
        name="detail",
        ours=lambda: queries.event(snapshot.events, day, uid),
        sql=f"SELECT * FROM e WHERE date = DATE '{day}' AND event_uid = '{uid}'",
    )


def _rare(counts: Any, snapshot: Snapshot, since: datetime) -> Iterator[Question]:
    """Yield searches for texts that few events have, or none."""
    day = UNTIL.date() - timedelta(days=14)
    found = snapshot.events.filter(pl.col("date") == day, pl.col("correlation_id").is_not_null())
    (correlation,) = found.select("correlation_id").head(1).collect().row(0)
    texts = {
        "a whole id": correlation,
        "12 digits of it": correlation[3:15],
        "a whole id, nowhere": NOWHERE,
        "12 digits, nowhere": NOWHERE[:12],
        "a word, nowhere": "zebrafish",
        "a rare phrase": RARE,
    }
    for name, text in texts.items():
        query = Query(since=since, until=UNTIL, text=f'"{text}"')
        condition = _contains(text)
        sql = f"SELECT date, count(*) FROM e WHERE {condition} GROUP BY date; "
        yield Question(
            name=name,
            ours=lambda query=query: _first_page(_uncached(counts), query),
            sql=f"{sql}SELECT {_LISTED} FROM e WHERE {condition} {_NEWEST}",
        )
    yield Question(
        name="a whole id, in its column",
        ours=lambda: _first_page(
            _uncached(counts),
            Query(since=since, until=UNTIL, text=f"correlation_id:{correlation} {correlation}"),
        ),
        sql=f"SELECT {_LISTED} FROM e WHERE correlation_id = '{correlation}' {_NEWEST}",
    )


def _contains(text: str) -> str:
    names = "list_aggregate(list_transform(targets, lambda t: t.name), 'string_agg')"
    wanted = text.lower()
    return " OR ".join(f"contains(lower({said}), '{wanted}')" for said in (*SEARCHED, names))


def _sums_in_sql(tick: str, condition: str) -> str:
    return (
        f"SELECT count(*), count(DISTINCT {_ACTOR}), count(DISTINCT nullif(source_ip, '')), "
        f"count(*) FILTER (outcome = 'failure') FROM e WHERE {condition}; "
        f"SELECT {tick} AS bucket, {_sql('activity_type')} AS v, count(*) FROM e "
        f"WHERE {condition} GROUP BY ALL"
    )


def _sums(counts: queries.Counts, query: Query, edges: tuple[datetime, ...]) -> object:
    """Return the totals and the graph, computed in one pass over the files as on the page."""
    return queries.summary(counts, query), _graph(counts, query, "activity_type", edges)


def _sql(field: str) -> str:
    return _SQL.get(field, f"nullif({field}, '')")


def _uncached(counts: Any) -> queries.Counts:
    """Return `counts` with an empty cache, so that each run reads the files again."""
    counts._tally.cache_clear()
    counts._known_of.cache_clear()
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
    """Return the best of up to three runs; slow queries run fewer times."""
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < _ROUNDS and sum(wall) < _LONG:
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    return Taken(first=wall[0], best=min(wall), cpu=min(cpu))


def timings(root: Path, since: datetime, *, peer: bool) -> Times:
    """Return the times of each query, by auditlake or (`peer`) by DuckDB."""
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
        one.name: measured((lambda one=one: _run_sql(connection, one.sql)) if peer else one.ours)
        for one in questions(snapshot, since)
    }


def _run_sql(connection: duckdb.DuckDBPyConnection, sql: str) -> list[object]:
    return [connection.execute(statement).fetchall() for statement in sql.split("; ")]


def _in_process(root: Path, since: datetime, peer: bool, answer: Any) -> None:
    figures = timings(root, since, peer=peer)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    answer.put((figures, int(status.partition("VmHWM:")[2].split()[0]) / 1024))


def timings_in_process(root: Path, since: datetime, *, peer: bool) -> tuple[Times, float]:
    """Return the times measured in a new process, and that process's peak memory in MB."""
    # A fork would inherit our memory, and Polars' threads don't survive one.
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_in_process, args=(root, since, peer, answer))
    process.start()
    found: tuple[Times, float] = answer.get()
    process.join()
    return found


def report(root: Path, events: int) -> None:
    for span, since in (("30 days", UNTIL - WEEKS), ("everything", SINCE)):
        ours, memory = timings_in_process(root, since, peer=False)
        theirs, other = timings_in_process(root, since, peer=True)
        print(
            f"\n{f'{events:,} events, {span}':<32}    first   clock  DuckDB    CPU  DuckDB  ratio"
        )
        for name, taken in ours.items():
            peer = theirs[name]
            print(
                f"  {name:<30} {taken.first:>8.0f} {taken.best:>7.0f} {peer.best:>7.0f} "
                f"{taken.cpu:>7.0f} {peer.cpu:>7.0f}  {taken.cpu / max(1, peer.cpu):5.2f}"
            )
        print(f"  {'peak memory, MB':<39} {memory:>7.0f} {other:>7.0f}", flush=True)


def rolled_up(root: Path) -> Path:
    start, before = time.perf_counter(), rollup_table.rolled_up(tables.Lake(str(root)))[1]
    rollup_table.roll_up(tables.Lake(str(root)), UNTIL.date())
    text_index_table.index(tables.Lake(str(root)), UNTIL.date())
    if not before:
        print(
            f"{root.name}: rolled up and indexed in {time.perf_counter() - start:.0f} s", flush=True
        )
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
