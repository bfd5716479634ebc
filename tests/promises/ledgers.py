"""A vendor whose records arrive when a test wants, and the comparison of issued with stored."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
import polars as pl

from pipelines import registry
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.extraction.report import Report
from pipelines.lake import events
from pipelines.lake.tables import Lake
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source
from sandbox import server
from sandbox.company import Company
from sandbox.server import Running
from sandbox.service import micros
from tests.conftest import World, raw_table

COMPANY = Company(1)
HASTY = RetryPolicy(attempts=1, longest_answer=0.3)
STUBBORN = RetryPolicy(first=0.001, ceiling=0.01, longest_answer=0.3)
_numbers = itertools.count()


@dataclass
class Clock:
    """A clock that only the test advances."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **span: float) -> None:
        self.now += timedelta(**span)


def written(kind: str, stream: str, times: Sequence[datetime]) -> list[bytes]:
    """Return one new record for each of these times, as the vendor writes them."""
    found = next(each for each in server.services()[kind].streams if each.name == stream)
    rng = Random(f"{kind}/{next(_numbers)}")
    day = times[0].replace(hour=12)
    known = list(COMPANY.while_passing(found.habits, day, day + timedelta(hours=1), 50, rng))
    return [
        msgspec.json.encode(found.render(replace(rng.choice(known), time=time), rng))
        for time in times
    ]


def arrive(running: Running, kind: str, stream: str, times: Sequence[datetime]) -> list[bytes]:
    """Add records of these times to the vendor's log, visible from now on; return them."""
    log, records = running.sandbox.log(kind, stream), written(kind, stream, times)
    for record, time in zip(records, times, strict=True):
        log.append(record, micros(time))
    return records


def spread(since: datetime, until: datetime, count: int) -> list[datetime]:
    """Return `count` evenly spaced times, in whole milliseconds like the vendors'."""
    step = (until - since) / count
    return [
        (since + step * n).replace(microsecond=(since + step * n).microsecond // 1000 * 1000)
        for n in range(count)
    ]


def poll(
    lake: Lake,
    source: Source,
    clock: Clock,
    retry_policy: RetryPolicy = STUBBORN,
    timeout: float = 5.0,
) -> list[Report]:
    def connect(source: Source) -> service_client.ServiceClient:
        client = service_client.connect(source, retry_policy=retry_policy, clock=clock)
        client.timeout = timeout
        return client

    return rounds.poll(lake, [source], connect=connect, clock=clock)


def difference(world: World, kind: str, stream: str, gone: Sequence[bytes] = ()) -> str:
    """Return the differences between the records issued and stored as text; "" if none."""
    issued = set(world.issued(kind, stream)) - {normalise.digest(record) for record in gone}
    stored = raw_table(world.lake, kind, stream)
    bytes_of = [normalise.digest(raw.encode()) for raw in stored["raw"]]
    events = world.events(kind, stream)
    told = {
        "lost": len(issued - set(bytes_of)),
        "twice": sum(count - 1 for count in Counter(bytes_of).values()),
        "never issued": len(set(bytes_of) - issued),
        "other bytes": sum(a != b for a, b in zip(bytes_of, stored["raw_sha256"], strict=True)),
        "seq": int(stored["seq"].to_list() != list(range(stored.height))),
        "events lost": len(set(_shown(kind, stream, stored)) - set(events["seq"])),
        "events twice": events.height - events["event_uid"].n_unique(),
    }
    return ", ".join(f"{name}: {count}" for name, count in told.items() if count)


def _shown(kind: str, stream: str, stored: pl.DataFrame) -> list[int]:
    """Return the seq of raw rows that have events: of a re-published record only the newest."""
    found = next(s for s in registry.kind(kind).streams(None) if s.name == stream)
    record = normalise.version_of(found)
    rows = stored if record is None else stored.filter(events.newest_version(record))
    return rows["seq"].to_list()


def check(world: World) -> None:
    """Check that Okta's records are stored, numbered and derived, each once."""
    stored, events = world.stored("okta", "system_log"), world.events("okta", "system_log")
    assert sorted(stored["raw_sha256"]) == sorted(world.issued("okta", "system_log"))
    assert stored["seq"].to_list() == list(range(stored.height))
    assert events["seq"].to_list() == list(range(stored.height))
