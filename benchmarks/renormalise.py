"""Deriving `events` again: `python benchmarks/renormalise.py [--rows N] [--engine NAME ...]`.

The lake has Okta records of the sandbox, 14,000 a day. Each line is one way to derive all of its
events again: in one process, then with each engine, whose workers are started within the time; its
events are compared with those of the first line. At last, DuckDB reads the same columns of raw, and
writes the same columns of events, which it takes from a copy: the least that any program must do.

Seconds are wall time, so other load on the machine counts; the last column is processor time of all
processes, as a share of that of one process.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from pipelines import engines, registry
from pipelines.extraction import derive, renormalise
from pipelines.extraction import report as reports
from pipelines.lake import events as events_table
from pipelines.lake import raw as raw_table
from pipelines.lake.tables import Lake
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source

PER_DAY, DAYS = 14_000, 5
LATER = datetime(2030, 1, 1, tzinfo=UTC)
OKTA = registry.kind("okta")
SOURCE = Source(name="okta", integration=OKTA, settings=None)


class Took(NamedTuple):
    """Seconds of wall time, and of processors."""

    seconds: float
    busy: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--engine", nargs="*", default=[engines.PROCESSES])
    options.add_argument("--times", type=int, default=1, help="run all so many times")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        history = filled(Lake(f"{folder}/lake"), given.rows)
        for _ in range(given.times):
            compared(history, given.engine, Path(folder) / "copy")


def compared(history: renormalise.History, names: list[str], copy: Path) -> None:
    print(f"{'':12}{'seconds':>9}{'rows/s':>10}{'times':>8}{'processor':>11}{'share':>8}")
    first = derived(history, "one process")
    line("one process", history, first, first)
    expected = fingerprint(history)
    for name in names:
        line(name, history, derived(history, name), first)
        assert fingerprint(history).equals(expected)
    line("DuckDB", history, in_duckdb(history.lake, copy), first)


def line(name: str, history: renormalise.History, took: Took, first: Took) -> None:
    rate = raw_table.position(history.lake, history.key).rows / took.seconds
    print(
        f"{name:12}{took.seconds:>9.1f}{rate:>10,.0f}{first.seconds / took.seconds:>8.2f}"
        f"{took.busy:>10.1f}s{took.busy / first.busy:>8.2f}"
    )


def fingerprint(history: renormalise.History) -> pl.Series:
    """Return a hash of each event, so that two states of the table can be compared."""
    stored, _ = events_table.snapshot(history.lake, history.key)
    return stored.collect().hash_rows(seed=1).sort()


def derived(history: renormalise.History, name: str) -> Took:
    """Derive all events again."""
    began, used = time.perf_counter(), busy()
    if name == "one process":
        rows = sum(each.part.rows for each in renormalise.renormalise(history, everything=True))
    else:
        with engines.opened(name) as engine:
            found = renormalise.renormalise(history, everything=True, engine=engine)
            rows = sum(each.part.rows for each in found)
    assert rows == raw_table.position(history.lake, history.key).rows
    return Took(time.perf_counter() - began, busy() - used)


def busy() -> float:
    """Return the processor seconds of this process, and of its children that have ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def in_duckdb(lake: Lake, copy: Path) -> Took:
    raw, events = (
        f"{lake.root}/{table}/date=*/*.parquet" for table in ("raw/okta/system_log", "events")
    )
    began, used = time.perf_counter(), busy()
    with duckdb.connect() as session:
        session.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
        columns = ", ".join(f"max({name})" for name in ("seq", "time", "ingested_at", "via", "raw"))
        read = f"SELECT {columns}, max(event_id) FROM read_parquet('{raw}')"  # noqa: S608 our paths
        session.execute(read).fetchall()
        session.execute(
            f"COPY (SELECT * FROM read_parquet('{events}')) TO '{copy}' "  # noqa: S608
            "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, PARTITION_BY (date))"
        )
    took = Took(time.perf_counter() - began, busy() - used)
    shutil.rmtree(copy)
    return took


def filled(lake: Lake, rows: int) -> renormalise.History:
    """Fill the lake with raw rows and their events, and return their history."""
    (stream,) = OKTA.streams(None)
    history = renormalise.History(lake=lake, source=SOURCE, stream=stream)
    report = reports.Report(integration="okta", stream=stream.name)
    left = rows
    for batch in days():
        read = normalise.read(stream, batch[:left], LATER, "poll").drop("fault", "bytes")
        derive.derive(
            lake, SOURCE, stream, raw_table.append(lake, history.key, read, "").frame, report
        )
        if not (left := left - len(batch[:left])):
            return history
    raise AssertionError


def days() -> Iterator[list[bytes]]:
    """Yield the records of one day after the other, without an end."""
    from sandbox.server import Options, Sandbox  # noqa: PLC0415 the workers need none

    sandbox = Sandbox(Options(days=DAYS, per_day=PER_DAY, rate=0))
    records = [record.raw for record in sandbox.log("okta", "system_log").visible()]
    for turn in count():
        moved = [later(record, turn) for record in records]
        for first in range(0, len(moved), PER_DAY):
            yield moved[first : first + PER_DAY]


def later(record: bytes, turn: int) -> bytes:
    """Return the record with an identity of its own, as if it had happened some days later."""

    def day(found: re.Match[bytes]) -> bytes:
        moved = datetime.fromisoformat(found[1].decode()) + timedelta(days=DAYS * turn)
        return b'"published":"%sT' % moved.date().isoformat().encode()

    moved = re.sub(rb'"published": ?"([0-9-]{10})T', day, record)
    return re.sub(rb'"uuid": ?"', b'"uuid":"%d-' % turn, moved)


if __name__ == "__main__":
    main()
