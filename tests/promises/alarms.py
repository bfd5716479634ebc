"""Verifies a lake while it is written, and fails on every alarm but that of a planted rollback.

`python -c "from tests.promises import alarms; alarms.main(1000)"` runs a thousand verifications
beside 50 pushes per second, polls, maintenance, signing and retention; `alarms.up(60)` watches
`auditlake up` and all its checks for an hour. `make soak` runs the first.
(Not -m: a new process would import the module again.)
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from pipelines import registry
from pipelines.cli import status
from pipelines.clock import utc_now
from pipelines.extraction import client, renormalise, rounds
from pipelines.extraction.renormalise import History
from pipelines.extraction.rounds import Round
from pipelines.integrity import retention
from pipelines.lake import maintenance, tables
from pipelines.lake.tables import Lake
from pipelines.orchestration import checks
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page
from sandbox.server import Options, running
from tests.cli import up_process
from tests.integrity.worlds import LOG, Signed
from tests.waiting import until

PUSHES, PER_PUSH = 5, 10
"""Pushes per second, and their records: 50 records per second."""
KEPT = timedelta(days=2)
FAR = date(2100, 1, 1)
FULL_EVERY = 20
CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name executionForLatestMaterialization { status evaluation { success description } } } } } } }"""
# Not forked: what is imported here starts threads of Polars, which a fork would not have.
processes = get_context("spawn")


def okta(keys: dict[str, Any]) -> Source:
    return registry.source("okta", keys)


def push(lake: Lake, source: Source, turn: int) -> str | None:
    """Store records as a worker stores those of a webhook."""
    now = utc_now()
    records = [
        json.dumps(
            {
                "uuid": f"pushed-{turn}-{number}",
                "published": f"{now:%Y-%m-%dT%H:%M:%S.000Z}",
                "eventType": "user.session.start",
                "actor": {"id": "u1", "type": "User", "alternateId": "u1@acme.example"},
                "outcome": {"result": "SUCCESS"},
            }
        ).encode()
        for number in range(PER_PUSH)
    ]
    with client.connect(source) as connected:
        this = Round(
            lake=lake, source=source, stream=source.streams()[0], client=connected, via="webhook"
        )
        return rounds.push(this, [Page(records=records, cursor="")]).error


def poll(lake: Lake, source: Source, _turn: int) -> str | None:
    (report,) = rounds.poll(lake, [source])
    return report.error


def tidy(lake: Lake, _source: Source, _turn: int) -> None:
    list(maintenance.maintain(lake, [LOG], FAR))


def retain(lake: Lake, _source: Source, _turn: int) -> None:
    """Remove the oldest day, as long as it is older than two days."""
    table = tables.scan(lake, LOG.table)
    oldest = table.select("date").min().collect().item() if table is not None else None
    if oldest and oldest < (utc_now() - KEPT).date():
        before = oldest + timedelta(days=1)
        act = retention.Removal(log=LOG, before=before, who="soak", why="oldest day")
        retention.remove(lake, act, utc_now())


WORK: dict[str, tuple[Callable[[Lake, Source, int], str | None], float]] = {
    "push": (push, 1 / PUSHES),
    "poll": (poll, 1.0),
    "tidy": (tidy, 2.0),
    "retain": (retain, 15.0),
}
"""What each process does, and the seconds between two turns."""


class Shared(NamedTuple):
    """What the processes of a soak have in common."""

    folder: Path
    keys: dict[str, Any]
    gate: Any
    stop: Any
    faults: Any


def work(name: str, shared: Shared) -> None:
    (action, pause), (folder, keys, gate, stop, faults) = WORK[name], shared
    lake, source, turn = Signed(folder).lake, okta(keys), 0
    while not stop.is_set():
        started = time.monotonic()
        with gate:
            try:
                fault = action(lake, source, turn)
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
        if fault:
            faults.put(f"{name}: {fault}")
        turn += 1
        stop.wait(max(0.0, pause - (time.monotonic() - started)))


class Soak:
    """A signed lake with the processes that write to it."""

    def __init__(self, folder: Path, keys: dict[str, Any]) -> None:
        self.signed, self.source = Signed(folder), okta(keys)
        self.gate, self.stop = processes.Semaphore(len(WORK)), processes.Event()
        self.faults = processes.SimpleQueue()
        shared = Shared(folder, keys, self.gate, self.stop, self.faults)
        self.workers = [processes.Process(target=work, args=(name, shared)) for name in WORK]

    @property
    def checkpoint(self) -> Path:
        return self.signed.log / "checkpoint"

    @contextmanager
    def running(self) -> Iterator[Soak]:
        assert poll(self.signed.lake, self.source, 0) is None
        for worker in self.workers:
            worker.start()
        try:
            yield self
        finally:
            self.stop.set()
            for worker in self.workers:
                worker.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep all processes between two turns."""
        for _ in WORK:
            self.gate.acquire()
        yield
        for _ in WORK:
            self.gate.release()

    def verify(self, number: int) -> list[str]:
        report = self.signed.verify(full=number % FULL_EVERY == 0)
        return [f"verify {number}: {each.kind}: {each.detail}" for each in report.findings]

    def rollback(self, older: bytes, number: int) -> list[str]:
        """Plant a checkpoint of the past; return an alarm if the verification misses it."""
        with self.paused():
            newest = self.checkpoint.read_bytes()
            assert newest != older
            self.checkpoint.write_bytes(older)
            found = self.signed.verify()
            self.checkpoint.write_bytes(newest)
        return [] if not found.ok else [f"verify {number}: the planted rollback was not found"]

    def others(self) -> list[str]:
        """Return the alarms of everything else that judges the lake."""
        lake, stream, now = self.signed.lake, self.source.streams()[0], utc_now()
        found = []
        if table := checks.opened(lake, LOG, stream, now, whole=True):
            outcomes = {
                name: checks.judged(judge, table) for name, (judge, _, _) in checks._CHECKS.items()
            }
            found += [f"{name}: {o.description}" for name, o in outcomes.items() if not o.passed]
        compared = renormalise.check(
            History(lake=lake, source=self.source, stream=stream), rows=200, seed=1
        )
        found += [f"follows_from_raw: {compared}"] * (not compared.sound)
        (line,) = status.states(lake, [self.source], now)
        return found + [f"status: {line.state}: {line.failure}"] * (
            line.state not in ("up to date", "events behind raw")
        )


def soak(folder: Path, verifications: int, seed: int) -> Iterator[str]:
    """Yield the alarms; the verification after the rollback is one of them only if it passes."""
    planted = random.Random(seed).randrange(verifications // 2, verifications)
    options = Options(days=10, per_day=100, rate=2, seed=seed)
    with running(options) as server, Soak(folder, server.settings()["okta"]).running() as lake:
        older = lake.checkpoint.read_bytes()
        for number in range(verifications):
            if number == planted:
                until(lambda: lake.checkpoint.read_bytes() != older, "a new checkpoint")
                yield from lake.rollback(older, number)
            yield from lake.verify(number)
            if number % FULL_EVERY == 0:
                yield from lake.others()
            while not lake.faults.empty():
                yield lake.faults.get()


def main(verifications: int = 1000, seed: int | None = None) -> None:
    seed = int(time.time()) if seed is None else seed
    print(f"{verifications:,} verifications, seed {seed}", flush=True)
    started, alarms = datetime.now(UTC), 0
    with tempfile.TemporaryDirectory() as folder:
        for alarm in soak(Path(folder), verifications, seed):
            alarms += 1
            print(alarm, flush=True)
    print(f"{alarms:,} alarms in {datetime.now(UTC) - started}")
    sys.exit(bool(alarms))


def up(minutes: int = 60) -> None:
    """Watch `auditlake up` with all its schedules, and print every alarm of a check or command."""
    alarms = set[str]()
    with (
        tempfile.TemporaryDirectory() as folder,
        up_process.started(Path(folder)) as (process, ports, out),
    ):
        until(lambda: "the first events are available" in out.read_text(), "the first events")
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            for alarm in {
                *failed_checks(ports["DAGSTER"]),
                *failed_commands(Path(folder)),
            } - alarms:
                alarms.add(alarm)
                print(f"{datetime.now(UTC):%H:%M:%S} {alarm}", flush=True)
            time.sleep(60)
        # Its children write to the folder, which is deleted next.
        process.terminate()
        process.wait()
    print(f"{len(alarms):,} alarms in {minutes} minutes")
    sys.exit(bool(alarms))


def failed_checks(port: int) -> Iterator[str]:
    answer = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": CHECKS}, timeout=60)
    for node in answer.json()["data"]["assetNodes"]:
        for check in node["assetChecksOrError"].get("checks", ()):
            found = check["executionForLatestMaterialization"]
            if found and found["status"] in ("FAILED", "EXECUTION_FAILED"):
                why = (found["evaluation"] or {}).get("description")
                yield f"{'/'.join(node['assetKey']['path'])} {check['name']}: {why}"


def failed_commands(folder: Path) -> Iterator[str]:
    for document in _command(folder, "verify"):
        if document["ok"] is False:  # None for a table that no proof covers
            yield f"verify: {document['table']}: {document['findings']}"
    for document in _command(folder, "status"):
        if document["state"] in ("failing", "late"):
            yield f"status: {document['integration']} {document['stream']}: {document['state']}"


def _command(folder: Path, name: str) -> list[dict[str, Any]]:
    config = next(folder.rglob("sandbox.toml"))
    command = [sys.executable, "-m", "pipelines", "--config", str(config), name, "--json"]
    environment = {**os.environ, "PYTHONPATH": up_process.PROJECT}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
