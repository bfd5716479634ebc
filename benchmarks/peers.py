"""Speed, and records lost and duplicated, compared with general loaders.

    .venv/bin/python benchmarks/peers.py

Each contender reads Okta's log from the same sandbox with the same faults, in a new process per
round: a persistent 503 during pagination; a kill -9 as soon as the first records are on disk; 50
events that arrive an hour late and 50 new ones; two rounds without new events. Then the stored
records are compared with those issued. Speed and memory are measured in a first round of --records
without faults; the CPU time is that of the contender, without the sandbox's.

dlt (with its Delta destination), singer-sdk and airbyte-cdk are installed on demand, each into its
own virtual environment below --venvs; they are not dependencies of the project. They are set up as
their documentation recommends: dlt with its REST client with retries, header links and an
incremental cursor, once with append, once with insert-only merge and a lag of two hours for late
events; singer-sdk with a sorted replication key, airbyte-cdk with a declarative source and a
datetime cursor, both with a target that saves the state after the records before it are written.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import polars as pl

from sandbox import server
from sandbox.company import Company
from sandbox.faults import Fault
from sandbox.server import Options, Running
from sandbox.service import micros

HERE = Path(__file__).parent / "contenders"
RECORDS = 3500
"""With faults."""
SINCE = timedelta(days=80)
VERSIONS = {
    "dlt": "dlt[deltalake]==1.31.0",
    "singer": "singer-sdk==0.54.9",
    "airbyte": "airbyte-cdk==7.39.1",
}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A tool that reads the log."""

    name: str
    script: str
    python: Path
    extra: tuple[str, ...]
    stored: Callable[[Path], list[str]]
    """A folder -> the IDs of the records stored there."""


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--venvs", type=Path, help="Folder to keep the virtual environments in.")
    arguments.add_argument("--alone", action="store_true", help="measure auditlake only")
    arguments.add_argument("--records", type=int, default=200_000, help="without faults")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        venvs = chosen.venvs or Path(folder) / "venvs"
        names = ("issued", "lost", "duplicate", "requests", "events/s", "/CPU s", "peak MB")
        print(f"{'':24}" + "".join(f"{name:>10}" for name in names), flush=True)
        for contender in [OURS] if chosen.alone else [OURS, *others(venvs)]:
            figures = [*faulty(contender), *undisturbed(contender, chosen.records)]
            print(f"{contender.name:24}" + "".join(f"{f:>10,}" for f in figures), flush=True)


def others(venvs: Path) -> list[Contender]:
    dlt, singer, airbyte = (installed(venvs / name, VERSIONS[name]) for name in VERSIONS)
    return [
        *(
            Contender(
                name=f"dlt, {how}", script="dlt_okta", python=dlt, extra=(how,), stored=dlt_ids
            )
            for how in ("append", "insert-only")
        ),
        Contender(
            name="singer-sdk", script="singer_okta", python=singer, extra=(), stored=line_ids
        ),
        Contender(
            name="airbyte-cdk", script="airbyte_okta", python=airbyte, extra=(), stored=line_ids
        ),
    ]


def installed(venv: Path, package: str) -> Path:
    """Return the Python of a virtual environment with the package; create it if missing."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", package], check=True)
    return python


def faulty(contender: Contender) -> tuple[int, int, int, int]:
    """Return the number of records issued, lost and duplicated, and of requests."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name, vendor(clock) as served:
        folder, box = Path(name), served.sandbox
        down = Fault(kind="okta", fault="status", status=503, at=list(range(2, 30)), retry_after=0)
        box.order([down])
        a_round(contender, served, folder, clock)
        box.order([])
        a_round(contender, served, folder, clock, killed=True)
        a_round(contender, served, folder, clock)
        late = [clock.now - timedelta(minutes=60, seconds=n) for n in range(50)]
        clock.now += timedelta(minutes=10)
        arrive(served, late)
        arrive(served, [clock.now - timedelta(seconds=60 - n) for n in range(50)])
        for _ in range(3):
            a_round(contender, served, folder, clock)
            clock.now += timedelta(minutes=10)
        issued = [entry.id for entry in box.ledger("okta", "system_log")]
        counts = Counter(contender.stored(folder))
        lost = len(set(issued) - set(counts))
        return len(issued), lost, counts.total() - len(counts), box.requests("okta")[0]


def undisturbed(contender: Contender, records: int) -> tuple[int, int, int]:
    """Return events per second, per second of CPU, and peak memory in MB of a first round."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name, vendor(clock, records) as served:
        started = time.perf_counter()
        used = a_round(contender, served, Path(name), clock)
        seconds = time.perf_counter() - started
        assert len(contender.stored(Path(name))) == records, contender.name
        return round(records / seconds), round(records / used.cpu), used.memory


class vendor:  # noqa: N801 reads as the context it is
    """A sandbox with so many records within three days that generates no more by itself."""

    def __init__(self, clock: Clock, records: int = RECORDS) -> None:
        self._serving = server.running(Options(days=0, per_day=0, rate=0), clock)
        self._clock = clock
        self._records = records

    def __enter__(self) -> Running:
        served = self._serving.__enter__()
        first, step = self._clock.now - timedelta(days=3), timedelta(days=3) / (self._records + 1)
        arrive(served, [first + step * n for n in range(self._records)])
        return served

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)


def arrive(served: Running, times: list[datetime]) -> None:
    (stream,) = server.services()["okta"].streams
    rng, noon = Random(str(times[0])), times[0].replace(hour=12)
    until = noon + timedelta(hours=1)
    known = list(Company(1).while_passing(stream.habits, noon, until, 100, rng))
    log = served.sandbox.log("okta", "system_log")
    for time_ in times:
        happening = replace(rng.choice(known), time=time_)
        log.append(msgspec.json.encode(stream.render(happening, rng)), micros(time_))


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a round took."""

    cpu: float
    """Seconds."""
    memory: int
    """At its peak, in MB."""


def a_round(
    contender: Contender, served: Running, folder: Path, clock: Clock, *, killed: bool = False
) -> Used:
    """Run a contender, or kill it once it has stored new records."""
    keys = served.settings()["okta"]
    since, until = (
        time_.strftime("%Y-%m-%dT%H:%M:%S.999Z") for time_ in (clock.now - SINCE, clock.now)
    )
    arguments = [keys["base_url"], keys["api_token"], str(folder), since, until, *contender.extra]
    command = [str(contender.python), str(HERE / f"{contender.script}.py"), *arguments]
    quiet = {**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    before, peak = on_disk(folder), 0
    process = subprocess.Popen(
        command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while True:
        if killed and on_disk(folder) > before:
            # Popen would wait for a process that has ended, and what it used would be lost.
            os.kill(process.pid, signal.SIGKILL)
        peak = max(peak, peak_memory(process.pid))
        ended, _, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            return Used(cpu=usage.ru_utime + usage.ru_stime, memory=peak // 1024)
        time.sleep(0.002 if killed else 0.02)


def peak_memory(process: int) -> int:
    """Return the most memory that a process has had so far, in kB; 0 if it has ended.

    Its `ru_maxrss` would be that of this one, which has the records, if that is more.
    """
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0


def on_disk(folder: Path) -> int:
    """Return a measure of progress: Delta commits of the table, or bytes of lines."""
    tables = [folder / "lake/raw/okta/system_log", folder / "lake/audit/logs"]
    commits = sum(len(list((table / "_delta_log").glob("*.json"))) for table in tables)
    lines = folder / "logs.ndjson"
    # The first commit of a raw table only creates it.
    return max(0, commits - tables[0].exists()) + (lines.stat().st_size if lines.exists() else 0)


def raw_ids(folder: Path) -> list[str]:
    return pl.read_delta(str(folder / "lake/raw/okta/system_log"))["event_id"].to_list()


def dlt_ids(folder: Path) -> list[str]:
    return pl.read_delta(str(folder / "lake/audit/logs"))["uuid"].to_list()


def line_ids(folder: Path) -> list[str]:
    found = []
    for line in (folder / "logs.ndjson").read_text().splitlines():
        try:
            found.append(json.loads(line)["uuid"])
        except ValueError:  # the kill truncated the line
            continue
    return found


OURS = Contender(
    name="auditlake", script="ours", python=Path(sys.executable), extra=(), stored=raw_ids
)

if __name__ == "__main__":
    main()
