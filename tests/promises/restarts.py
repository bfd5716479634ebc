"""Three rounds and a delivery, recorded, and what a restart finds on the disk of a power cut.

`python -c "from tests.promises import restarts; restarts.main(2000)"` restarts from so many disks;
`make soak` runs it.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

import httpx

from pipelines import registry
from pipelines.errors import AuditlakeError, LakeError
from pipelines.extraction import batches
from pipelines.integrity import operator_acts, reports
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import Job, WorkerPool
from pipelines.lake import handles, maintenance, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import IntegritySettings
from pipelines.webhooks.receiver import Endpoint, Receiver
from pipelines.webhooks.spool import Damaged, Spool
from pipelines.webhooks.worker import Worker
from sandbox.server import Options, Running, running
from sandbox.service import micros
from tests.conftest import raw_table
from tests.promises.ledgers import Clock, arrive, poll, spread, written
from tests.promises.power_cuts import Disk, Moment, Recorder, disks
from tests.webhooks.conftest import SECRET
from tests.webhooks.requests import GOOD

LOG = StreamKey("okta", "system_log")
BATCH = 30
CHECKPOINT_EVERY = 4
_REMOVE = re.compile(r"remove the file (\S+) and")
_REPAIRS = 6


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The ids of records, and the number of operator acts, that have to survive."""

    landed: frozenset[str] = frozenset()
    pushed: frozenset[str] = frozenset()
    acts: int = 0


@dataclass(slots=True, kw_only=True)
class Site:
    """A machine's disk with a lake, its keys and its spool."""

    folder: Path
    source: Source
    clock: Clock

    @property
    def lake(self) -> Lake:
        return Lake(
            str(self.folder / "data" / "lake"),
            integrity=IntegritySettings(folder=self.folder / "state" / "keys"),
        )

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "data" / "lake" / "spool", limit=2**24)

    def worker(self) -> Worker:
        found = self.source.integration.push
        assert found
        return Worker(
            lake=self.lake, source=self.source, push=found, spool=self.spool, clock=self.clock
        )

    def poll(self) -> list[str]:
        """Run a round and return its errors."""
        return [each.error for each in poll(self.lake, self.source, self.clock) if each.error]

    def stored(self) -> set[str]:
        return set(raw_table(self.lake, *LOG)["event_id"])


@dataclass(slots=True, kw_only=True)
class Recording:
    """What happened, and all that the vendor has issued."""

    moments: list[Moment]
    issued: set[str]
    source: Source
    clock: Clock


@contextmanager
def recorded(
    folder: Path, without: Callable[[Path], bool] = lambda _: False
) -> Iterator[Recording]:
    """Record three rounds and a delivery; the vendor still answers while the result is used."""
    clock = Clock()
    with running(Options(days=0, per_day=0, rate=0), clock) as vendor:
        source = registry.source("okta", vendor.settings()["okta"])
        site = Site(folder=folder, source=source, clock=clock)
        folder.mkdir()
        before = batches._BATCH_RECORDS, handles.CHECKPOINT_EVERY
        batches._BATCH_RECORDS, handles.CHECKPOINT_EVERY = BATCH, CHECKPOINT_EVERY
        recorder = Recorder(folder, Acknowledged())
        try:
            with recorder.recording(without):
                issued = _live(site, vendor, recorder)
        finally:
            batches._BATCH_RECORDS, handles.CHECKPOINT_EVERY = before
        yield Recording(moments=recorder.moments, issued=issued, source=source, clock=clock)


def _live(site: Site, vendor: Running, recorder: Recorder) -> set[str]:
    """Let records arrive, be polled and be pushed; return the ids of all that were issued."""
    now = site.clock.now
    issued = _issue(vendor, spread(now - timedelta(days=2), now, 75))
    _round(site, recorder, frozenset())
    issued |= _issue(vendor, _ten_minutes(site.clock, 8))
    _round(site, recorder, frozenset())
    records = written(*LOG, _ten_minutes(site.clock, 3))
    pushed = frozenset(map(_id, records))
    with site.spool.open():
        assert asyncio.run(_deliver(site, records)) == 200
        recorder.acknowledge("the delivery", _acknowledged(site, pushed))
        site.worker().run_once()
    recorder.acknowledge("the delivery is stored", _acknowledged(site, pushed))
    log = vendor.sandbox.log(*LOG)
    for record in records:
        log.append(record, micros(datetime.fromisoformat(json.loads(record)["published"])))
    issued |= pushed | _issue(vendor, _ten_minutes(site.clock, 8))
    _round(site, recorder, pushed)
    return issued


def _ten_minutes(clock: Clock, count: int) -> list[datetime]:
    """Let ten minutes pass, and return times in them."""
    clock.pass_by(minutes=10)
    return spread(clock.now - timedelta(minutes=10), clock.now, count)


def _issue(vendor: Running, times: list[datetime]) -> set[str]:
    return set(map(_id, arrive(vendor, *LOG, times)))


def _round(site: Site, recorder: Recorder, pushed: frozenset[str]) -> None:
    assert site.poll() == []
    recorder.acknowledge("a round", _acknowledged(site, pushed))


def _acknowledged(site: Site, pushed: frozenset[str]) -> Acknowledged:
    acts = len(operator_acts.recorded(site.lake))
    return Acknowledged(frozenset(site.stored()), pushed, acts)


async def _deliver(site: Site, records: list[bytes]) -> int:
    """Send records as Okta's event hook does; return the status of the answer."""
    source = site.source
    assert source.integration.push
    endpoint = Endpoint(source=source, push=source.integration.push, secret=SECRET)
    app = Receiver([endpoint], site.spool, lambda _: None, clock=site.clock).app
    body = {"data": {"events": [json.loads(record) for record in records]}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as sender:
        answer = await sender.post(f"http://x/{source.name}", json=body, headers=GOOD)
    return answer.status_code


def problem(recording: Recording, disk: Disk, folder: Path) -> str:
    """Restart from a disk as the documentation describes; return what is wrong, or ""."""
    disk.write(folder)
    site = Site(folder=folder, source=recording.source, clock=recording.clock)
    done = disk.moment.acknowledged
    try:
        _repair(site)
        if lost := done.landed - site.stored():
            return f"{len(lost)} acknowledged rows are lost"
        if lost := done.pushed - site.stored() - _spooled(site):
            return f"{len(lost)} acknowledged pushes are lost"
        if len(operator_acts.recorded(site.lake)) < done.acts:
            return "acknowledged acts are lost"
        return _resumed(recording, site)
    except AuditlakeError as error:
        return str(error)


def _repair(site: Site) -> None:
    """Read every table, and remove each newest commit that an error names. Raises LakeError."""
    for table in maintenance.tables_of(site.lake, []):
        for left in reversed(range(_REPAIRS)):
            try:
                found = tables.scan(site.lake, table)
                with tables.store_errors(table):
                    _ = found is None or found.collect()
                break
            except LakeError as error:
                named = _REMOVE.search(str(error))
                if named is None or not left:
                    raise
                Path(named[1]).unlink()


def _spooled(site: Site) -> set[str]:
    found: set[str] = set()
    for path in site.spool.waiting(site.source.name):
        with suppress(Damaged):
            body = json.loads(site.spool.load(path).body)
            found |= {each["uuid"] for each in body["data"]["events"]}
    return found


def _resumed(recording: Recording, site: Site) -> str:
    """Receive and poll again; return how the lake then differs from the vendor, or ""."""
    with site.spool.open():
        worker = site.worker()
        worker.run_once()
        if not worker.is_idle:
            return "deliveries are left in the spool"
    if errors := site.poll():
        return errors[0]
    rows, events = raw_table(site.lake, *LOG), tables.scan(site.lake, "events")
    ids = rows["event_id"].to_list()
    wrong = {
        "lost": len(recording.issued - set(ids)),
        "twice": len(ids) - len(set(ids)),
        "not numbered": int(rows["seq"].to_list() != list(range(rows.height))),
        "without events": rows.height - (events.collect().height if events is not None else 0),
    }
    told = [f"{name}: {count}" for name, count in wrong.items() if count]
    return ", ".join([*told, *_findings(site)])


def _findings(site: Site) -> list[str]:
    """Verify all rows and events, and return what is not as it was signed."""
    lake = site.lake
    assert lake.integrity
    place = reports.place(lake, lake.integrity)
    job = Job(place=place, table=LOG.table, kind="okta", full=True)
    with WorkerPool(1) as crew:
        found = [*verify.verify(job, crew).findings, *verify.verify_acts(place).findings]
    # Tiles are not flushed: docs/integrity.md explains how a damaged one is rebuilt.
    return [f"{each.kind}: {each.detail}" for each in found if each.kind != "tiles"]


def problems(
    recording: Recording, folder: Path, count: int, seed: int
) -> Iterator[tuple[Disk, str]]:
    """Restart from `count` disks, or all there are; yield each with what is wrong, or ""."""
    mixed = max(4, 2 * count // len(recording.moments))
    possible = disks(recording.moments, mixed, Random(seed))
    for number, disk in enumerate(islice(possible, count)):
        place = folder / str(number)
        yield disk, problem(recording, disk, place)
        shutil.rmtree(place)


def main(count: int) -> None:
    seed, wrong, total = int(time.time()), 0, 0
    print(f"{count:,} disks after power cuts, seed {seed}")
    with tempfile.TemporaryDirectory() as folder, recorded(Path(folder) / "disk") as recording:
        for disk, found in problems(recording, Path(folder), count, seed):
            total, wrong = total + 1, wrong + bool(found)
            if found:
                print(f"{disk.moment.about}, {disk.how}: {found}", flush=True)
    print(f"{total:,} restarts: " + (f"{wrong:,} are wrong" if wrong else "nothing lost"))
    sys.exit(bool(wrong))


def _id(record: bytes) -> str:
    return str(json.loads(record)["uuid"])
