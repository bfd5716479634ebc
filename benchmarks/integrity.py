"""Cost of tamper evidence: `benchmarks/integrity.py [--rows N] [--proofs N] [--engine NAME ...]`.

The column `peer` is measured in the same run: tlog-scales, an independent transparency log, appends
and proves the same leaves; for verification, the lower bound is SHA-256 over the same records, read
by Polars in one process. Absolute figures depend on the machine and its load; lines with `CPU` show
processor time, which hardly depends on the load.

With `--engine`, only this is measured: rows and their events are verified by one process, and then
by each of these engines, whose workers are started within the time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import polars as pl
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deltalake import DeltaTable
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import PlainEd25519Signer
from tlog_scales.writer import TilesWriter

from pipelines import engines, registry
from pipelines.integrity import prove, reports
from pipelines.integrity import signer as integrity_signer
from pipelines.integrity.crew import EngineCrew
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import Crew, Job, TableReport, WorkerPool
from pipelines.lake import events as events_table
from pipelines.lake import raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.settings import IntegritySettings

LOG = StreamKey("okta", "system_log")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
COMMIT = 50_000
HOUR = 5_000
FILLER = "x" * 840

T = TypeVar("T")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000, help="rows to verify")
    options.add_argument("--proofs", type=int, default=10_000_000, help="size of the proved log")
    options.add_argument("--engine", nargs="*", default=[], help="see docs/engines.md")
    given = options.parse_args()
    print(f"{'':52}{'auditlake':>11}{'peer':>11}   goal")
    if given.engine:
        by_engines(given.rows, given.engine)
        return
    appending()
    verifying(given.rows)
    with_events(min(given.rows // 10, 100_000))
    proving(given.proofs)


def appending() -> None:
    """Append 500 rows per round and sign them; the peer builds and signs the same tree."""
    commits, signing, peers, used, busy = [], [], [], [], []
    with signed_lake() as lake, tempfile.TemporaryDirectory() as folder:
        writer = TilesWriter.create(Path(folder) / "log", "bench")
        signer = PlainEd25519Signer("bench", Ed25519PrivateKey.generate())
        for first in range(0, 30_000, 500):
            batch = rows(first, 500)
            before = time.process_time()
            landed, took = timed(lambda b=batch: raw.append(lake, LOG, b, "c").frame)
            busy.append(time.process_time() - before)
            commits.append(took)
            size, before = first + 500, time.process_time()
            signing.append(
                timed(lambda s=size, f=landed: integrity_signer.sign(lake, LOG, s, BEGIN, f))[1]
            )
            used.append(time.process_time() - before)
            entries = integrity_signer.entries(landed)
            peers.append(timed(lambda e=entries: grow(writer, signer, e))[1])
    commit, sign, peer = map(statistics.median, (commits, signing, peers))
    report("append of 500 rows of 1 KB, ms", commit * 1e3)
    report("  its tree, signature and checkpoint, ms", sign * 1e3, peer * 1e3)
    report("  the same, % of the append", 100 * sign / commit, 100 * peer / commit, goal="15")
    report("  the same in CPU, %", 100 * statistics.median(used) / statistics.median(busy))


def grow(writer: TilesWriter, signer: PlainEd25519Signer, entries: list[bytes]) -> None:
    for entry in entries:
        writer.add_leaf(entry)
    writer.commit([signer])


def verifying(count: int) -> None:
    """Verify all rows, three times, and then only those of the last hour."""
    with signed_lake() as lake:
        land(lake, 0, count)
        took, used = [], []
        for _ in range(3):
            before = processors()
            verdict, seconds = verified(lake, full=True)
            assert verdict.read == count
            took.append(seconds)
            used.append(processors() - before)
        goal = f"{1.8 * count / 1e6:.2g}"  # a hundred million in three minutes
        median = statistics.median(took)
        report(f"verify all of {count:,} rows of 1 KB, s", median, hashing(lake), goal=goal)
        report("  CPU of that, s, of all processes", statistics.median(used))
        finding(lake, count)
        land(lake, count, HOUR)
        verdict, took = verified(lake)
        assert verdict.read < HOUR + 256
        report(f"verify the last hour, {HOUR:,} rows, s", took, goal="1")


def finding(lake: Lake, count: int) -> None:
    """Find a record by its position, and by its ID alone, and prove it."""
    place = f"{LOG.table}/{count * 7 // 11}"
    proof, took = timed(lambda: prove.prove(lake, place))
    report(f"find by place and prove one of {count:,} rows, ms", took * 1e3)
    event = f"okta:system_log:{proof['record']['event_id']}"
    took = timed(lambda: prove.prove(lake, event))[1]
    report(f"find by id and prove one of {count:,} rows, ms", took * 1e3)


def with_events(count: int) -> None:
    """Verify `events` too: they are derived again and compared, which takes most of the time."""
    with signed_lake() as lake:
        land(lake, 0, count)
        peer = derive(lake, count)
        verdict, took = verified(lake, "okta")
        assert verdict.events == count
        report(f"verify {count:,} rows and their events, s (peer: mapping)", took, peer)


def by_engines(count: int, names: list[str]) -> None:
    """Verify rows and their events by one process, and by engines (peer: the one process)."""
    with signed_lake() as lake:
        land(lake, 0, count)
        derive(lake, count)
        verdict, alone = verified(lake, "okta", full=True, crew=WorkerPool(1))
        assert (verdict.read, verdict.events) == (count, count)
        report(f"verify {count:,} rows and their events, one process, s", alone)
        for name in names:
            started = time.perf_counter()
            with engines.opened(name) as engine:
                found, _ = verified(lake, "okta", full=True, crew=EngineCrew(engine, lake))
            assert (found.root, found.events) == (verdict.root, verdict.events)
            report(f"  by {name}, s", time.perf_counter() - started, alone)


def derive(lake: Lake, count: int) -> float:
    """Derive the events of all rows, and return the seconds that mapping takes."""
    kind, spent = registry.kind("okta"), 0.0
    (stream,) = kind.streams(None)
    for first in range(0, count, COMMIT):
        until = min(first + COMMIT, count)
        landed = raw.rows(lake, LOG, first, until)
        mapped, took = timed(lambda f=landed: normalise.normalise("okta", kind, stream, f).events)
        events_table.append(lake, LOG, first, until, lambda e=mapped: e)
        spent += took
    return spent


def proving(count: int) -> None:
    """Prove one row of `count`, in a real tree whose records are never written to disk."""
    with signed_lake() as lake:
        sign_only(lake, count)
        index = count * 7 // 11
        row = rows(index, 1).with_columns(seq=pl.lit(index)).row(0, named=True)
        proof, took = timed(lambda: prove.prover(lake, LOG.app).record(row))
        path, peer = timed(lambda: their_proof(lake, index))
        theirs = [b64encode(each).decode() for each in path]
        assert proof["proof"].split("\n\n")[0].split("\n")[2:] == theirs
        report(f"prove one of {count:,} rows, ms", took * 1e3, peer * 1e3, goal="100")


def their_proof(lake: Lake, index: int) -> list[bytes]:
    reader = TilesReader(LocalBackend(Path(lake.root) / "integrity" / LOG.app))
    return reader.get_inclusion_proof(index, reader.get_checkpoint().size).node_hashes


def verified(
    lake: Lake, kind: str | None = None, *, full: bool = False, crew: Crew | None = None
) -> tuple[TableReport, float]:
    """Return the verdict and the seconds it took, including the start of the processes."""
    place = reports.place(lake, lake.integrity or IntegritySettings())
    case = Job(place=place, table=LOG.table, kind=kind, full=full)
    started = time.perf_counter()
    with WorkerPool() as pool:
        verdict = verify.verify(case, crew or pool)
    assert verdict.ok, verdict.findings
    return verdict, time.perf_counter() - started


def hashing(lake: Lake) -> float:
    """Return the seconds it takes only to read the records and hash each one."""
    uris = DeltaTable(lake.uri(LOG.table)).file_uris()

    def work() -> None:
        for uri in uris:
            for record in pl.read_parquet(uri, columns=["raw"])["raw"].cast(pl.Binary):
                hashlib.sha256(record).digest()

    return timed(work)[1]


@contextmanager
def signed_lake() -> Iterator[Lake]:
    with tempfile.TemporaryDirectory() as folder:
        settings = IntegritySettings(folder=Path(folder) / "state")
        yield Lake(str(Path(folder) / "lake"), None, settings)


def land(lake: Lake, first: int, count: int) -> None:
    for begin in range(first, first + count, COMMIT):
        batch = rows(begin, min(COMMIT, first + count - begin))
        landed = raw.append(lake, LOG, batch, "c").frame
        integrity_signer.sign(lake, LOG, begin + landed.height, BEGIN, landed)


def sign_only(lake: Lake, count: int) -> None:
    """Build and sign the tree of `count` records without storing the records."""
    kept = integrity_signer.of(lake, LOG.app)
    assert kept
    kept.place.joinpath("signed").mkdir(parents=True)
    head, edge = integrity_signer.new_head(kept), ()
    for first in range(0, count, COMMIT):
        head, edge = integrity_signer.grow(
            kept, head, edge, integrity_signer.entries(rows(first, COMMIT))
        )
    integrity_signer.announce(kept, head, BEGIN, None)


def rows(first: int, count: int) -> pl.DataFrame:
    """Return raw rows of 1 KB, 100,000 per day."""
    times = [BEGIN + timedelta(seconds=n * 0.864) for n in range(first, first + count)]
    raws = [record(n, time) for n, time in zip(range(first, first + count), times, strict=True)]
    return pl.DataFrame(
        {
            "event_id": [f"{n:08x}-6d1c-11ef-8a57-{n:012x}" for n in range(first, first + count)],
            "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "ingested_at": pl.Series([BEGIN] * count, dtype=pl.Datetime("us", "UTC")),
            "via": ["poll"] * count,
            "raw": raws,
            "raw_sha256": [hashlib.sha256(raw.encode()).hexdigest() for raw in raws],
        }
    ).with_columns(pl.col("time").dt.date().alias("date"))


def record(number: int, time: datetime) -> str:
    return (
        f'{{"uuid":"{number:08x}-6d1c-11ef-8a57-{number:012x}",'
        f'"published":"{time:%Y-%m-%dT%H:%M:%S.%fZ}","eventType":"user.session.start",'
        f'"outcome":{{"result":"SUCCESS"}},"x":"{FILLER}"}}'
    )


def processors() -> float:
    """Return the CPU seconds used by this process and its finished children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def report(name: str, ours: float, peer: float | None = None, goal: str = "") -> None:
    compared = f"{peer:11.2f}" if peer is not None else " " * 11
    print(f"{name:52}{ours:11.2f}{compared}   {goal and '< ' + goal}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
