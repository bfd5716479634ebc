"""What a round of 1,000 new events costs on a small, a large and a very large lake; and commits.

Tables of so many rows are made through the lake's own door, a commit a day. Then some rounds of
1,000 new events each are read from a sandbox into raw and events: seconds, bytes read from files,
requests. Beside it the peer: the same 1,000 rows by Delta's own MERGE on their id and day, which is
what a general loader does. With --commits so many commits of 50 rows follow each other, maintenance
every 360th, as in an hour of rounds.

    .venv/bin/python benchmarks/growth.py --rows 100000 1000000 20000000
    .venv/bin/python benchmarks/growth.py --rows --commits 10000
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import polars as pl

from pipelines import registry
from pipelines.extraction import client
from pipelines.extraction import rounds as extraction_rounds
from pipelines.lake import coverage, events, maintenance, raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS, RAW
from pipelines.sdk.contract import Source
from sandbox import server
from sandbox.company import Company
from sandbox.server import Options, Running
from sandbox.service import micros

DAYS = 80
NEW = 1000
ROUNDS = 11
LOG = StreamKey("okta", "system_log")


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a round."""

    seconds: float
    cpu: float
    megabytes: float
    requests: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000, 20_000_000])
    arguments.add_argument("--commits", type=int, default=0)
    arguments.add_argument("--folder", type=Path, help="Where the tables are made and removed.")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if chosen.rows:
            rounds(Path(folder), chosen.rows)
        if chosen.commits:
            commits(Path(folder), chosen.commits)


def rounds(folder: Path, sizes: list[int]) -> None:
    names = ("seconds", "CPU, s", "MB read", "requests", "merge, s")
    print(f"{'rows':>12}" + "".join(f"{name:>10}" for name in names), flush=True)
    found = {}
    for size in sizes:
        lake, clock = Lake(str(folder / str(size))), Clock()
        with server.running(Options(days=0, per_day=0, rate=0), clock) as vendor:
            source = registry.source("okta", vendor.settings()["okta"])
            fill(lake, source, size, clock())
            list(maintenance.maintain(lake, [LOG], clock().date()))
            costs = [a_round(lake, source, vendor, clock, number) for number in range(ROUNDS)]
        found[size] = best(costs)
        merge = min(merged(lake, clock(), number) for number in range(3))
        figures = (found[size].seconds, found[size].cpu, found[size].megabytes)
        told = "".join(f"{figure:>10.3f}" for figure in figures)
        print(f"{size:>12,}{told}{found[size].requests:>10}{merge:>10.3f}", flush=True)
        shutil.rmtree(lake.root)
    least, most = found[sizes[0]], found[sizes[-1]]
    print(
        f"largest to smallest: {most.seconds / least.seconds:.2f} times the seconds, "
        f"{most.cpu / least.cpu:.2f} the CPU, {most.megabytes / least.megabytes:.2f} the bytes"
    )


def best(costs: list[Cost]) -> Cost:
    """The least of some rounds: what a machine that others use adds is no cost of ours."""
    return Cost(
        seconds=min(cost.seconds for cost in costs),
        cpu=min(cost.cpu for cost in costs),
        megabytes=statistics.median(cost.megabytes for cost in costs),
        requests=costs[-1].requests,
    )


def fill(lake: Lake, source: Source, size: int, now: datetime) -> None:
    """A table of `size` rows over the days before now, and their events."""
    (stream,) = source.streams()
    about = f"{source.integration.title} {stream.name}, {source.settings.base_url}"
    cursor, each, first = stream.begin(now - timedelta(hours=1), now), size // DAYS, 0
    for day in range(DAYS, 0, -1):
        rows = history(now - timedelta(days=day), each, first)
        raw.append(lake, LOG, rows.drop("seq"), cursor, about=about)
        events.append(lake, LOG, first, first + each, lambda rows=rows: mapped(rows))
        first += each
    # As after a round just now.
    span = coverage.Entry(since=now - timedelta(days=DAYS), until=now, asked_at=now)
    coverage.record(lake, LOG, [span], cursor)


def history(since: datetime, count: int, first: int) -> pl.DataFrame:
    """Raw rows of one day."""
    start = since.replace(hour=0, minute=0, second=0)
    step = 80_000_000_000 // count
    time_ = pl.lit(start) + pl.duration(microseconds=(pl.col("seq") - first) * step)
    return (
        pl.DataFrame(pl.int_range(first, first + count, eager=True).alias("seq"))
        .with_columns(time=time_.cast(RAW["time"]))
        .with_columns(
            event_id=pl.format("{}-{}", pl.col("seq").hash(1), pl.col("seq")),
            date=pl.lit(start.date()),
            ingested_at=pl.col("time") + pl.duration(seconds=2),
            via=pl.lit("poll"),
            raw=pl.concat_str(
                pl.lit('{"uuid":"'),
                pl.col("seq").hash(1).cast(pl.String),
                pl.lit('","eventType":"user.session.start","published":"'),
                pl.col("time").dt.to_string("%Y-%m-%dT%H:%M:%S%.3fZ"),
                pl.lit('"}'),
            ),
            raw_sha256=pl.format("{}{}", pl.col("seq").hash(2), pl.col("seq").hash(3)),
        )
    )


def mapped(raw: pl.DataFrame) -> pl.DataFrame:
    """Event rows of them, for their size's sake."""
    said = {
        "integration": LOG.integration,
        "kind": LOG.integration,
        "stream": LOG.stream,
        "activity_type": "Authentication",
        "action_type": "Logon",
        "action": "user.session.start",
        "outcome": "success",
        "actor_email": "ada@example.com",
    }
    kept = {name: pl.col(name) for name in ("time", "date", "ingested_at", "event_id", "seq")}
    uid = pl.format("okta:system_log:{}", "event_id")
    columns = {**{n: pl.lit(v) for n, v in said.items()}, **kept, "event_uid": uid}
    nothing = pl.lit(None)
    return raw.select(columns.get(n, nothing).cast(t).alias(n) for n, t in EVENTS.items())


COMPANY = Company(1)


def news(times: list[datetime], seed: str) -> list[bytes]:
    """Okta's records of these times."""
    (stream,) = server.services()["okta"].streams
    rng, noon = Random(seed), times[0].replace(hour=12)
    known = list(COMPANY.while_passing(stream.habits, noon, noon + timedelta(hours=1), 100, rng))
    return [
        msgspec.json.encode(stream.render(replace(rng.choice(known), time=time_), rng))
        for time_ in times
    ]


def a_round(lake: Lake, source: Source, vendor: Running, clock: Clock, number: int) -> Cost:
    """1,000 events of the last minutes arrive, and a round fetches them."""
    clock.now += timedelta(minutes=1)
    times = [clock.now - timedelta(milliseconds=50 * n) for n in range(NEW, 0, -1)]
    log = vendor.sandbox.log("okta", "system_log")
    for record, time_ in zip(news(times, str(number)), times, strict=True):
        log.append(record, micros(time_))
    read, started, cpu = bytes_read(), time.perf_counter(), time.process_time()
    (report,) = extraction_rounds.poll(
        lake, [source], connect=lambda s: client.connect(s, clock=clock), clock=clock
    )
    assert (report.error, report.rows, report.events) == (None, NEW, NEW), report
    return Cost(
        seconds=time.perf_counter() - started,
        cpu=time.process_time() - cpu,
        megabytes=(bytes_read() - read) / 1e6,
        requests=report.requests,
    )


def bytes_read() -> int:
    """By this process, from files and pipes."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].removeprefix("rchar: "))


def merged(lake: Lake, now: datetime, number: int) -> float:
    """Seconds of an insert-only MERGE of 1,000 new rows on id and day."""
    table = tables.open_table(lake, LOG.table)
    assert table is not None
    rows = history(now, NEW, 10**12 + number * NEW).select(
        pl.col(name).cast(dtype) for name, dtype in RAW.items()
    )
    started = time.perf_counter()
    merge: Any = table.merge(
        rows,
        predicate=f"t.event_id = s.event_id AND t.date = s.date AND t.date = '{now.date()}'",
        source_alias="s",
        target_alias="t",
    )
    merge.when_not_matched_insert_all().execute()
    return time.perf_counter() - started


def commits(folder: Path, count: int) -> None:
    """50 rows a commit, ten seconds apart by their own time; maintenance every hour of it."""
    lake, now = Lake(str(folder / "commits")), datetime.now(UTC) - timedelta(days=2)
    took: list[Took] = []
    for number in range(count):
        now += timedelta(seconds=10)
        rows = history(now, 50, number * 50).with_columns(
            time=pl.lit(now, RAW["time"]) + pl.duration(milliseconds=pl.col("seq") % 50),
            date=pl.lit(now.date()),
        )
        with timed(took):
            raw.append(lake, LOG, rows.drop("seq"), f"{number}")
        if number % 360 == 359:
            list(maintenance.maintain(lake, [LOG], now.date()))
        if (number + 1) % max(1, count // 10) == 0:
            told(number + 1, took[-(count // 10) :])


def told(number: int, took: list[Took]) -> None:
    for what, values in (("took", [t.seconds for t in took]), ("CPU", [t.cpu for t in took])):
        p50, p99 = (quantile(values, part) * 1000 for part in (0.5, 0.99))
        print(f"commits up to {number:,}: {what} p50 {p50:.0f} ms, p99 {p99:.0f} ms", flush=True)


class Took(NamedTuple):
    seconds: float
    cpu: float


@contextmanager
def timed(took: list[Took]) -> Iterator[None]:
    started, cpu = time.perf_counter(), time.process_time()
    yield
    took.append(Took(time.perf_counter() - started, time.process_time() - cpu))


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


if __name__ == "__main__":
    main()
