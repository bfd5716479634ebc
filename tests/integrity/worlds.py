"""A small signed lake with rows and events, written by the pipeline's own code."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines import registry
from pipelines.integrity import keys, reports, signer
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import Job, WorkerPool
from pipelines.lake import events, raw
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.settings import IntegritySettings

LOG = StreamKey("okta", "system_log")
OKTA = registry.kind("okta")
STREAM = OKTA.streams(None)[0]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(number, *, day=0):
    time = NOON + timedelta(days=day, seconds=number % 40_000)
    return json.dumps(
        {
            "uuid": f"id-{number:06}",
            "published": f"{time:%Y-%m-%dT%H:%M:%S.000Z}",
            "eventType": "user.session.start",
            "actor": {"id": f"u{number % 7}", "type": "User", "alternateId": f"u{number % 7}@x.io"},
            "outcome": {"result": "SUCCESS"},
        }
    ).encode()


def rows(numbers, *, day=0, now=NOON, via="poll"):
    read = normalise.read(STREAM, [record(n, day=day) for n in numbers], now, via)
    return read.drop("fault", "bytes")


@dataclass
class Signed:
    """A lake that is signed after every commit, with its state folder next to it."""

    folder: Path
    settings: dict = field(default_factory=dict)

    @property
    def integrity(self):
        return IntegritySettings(**{"folder": self.folder / "state", **self.settings})

    @property
    def lake(self):
        return Lake(str(self.folder / "lake"), None, self.integrity)

    @property
    def place(self):
        return reports.place(self.lake, self.integrity)

    @property
    def table(self):
        return self.folder / "lake" / LOG.table

    @property
    def log(self):
        return self.folder / "lake" / "integrity" / LOG.app

    def land(self, *numbers, day=0, log=LOG, sign=True, derive=True, now=NOON):
        """Run one round: rows, checkpoint, events; return the table's row count."""
        landed = raw.append(self.lake, log, rows(numbers, day=day, now=now), "cursor").frame
        total = landed["seq"][-1] + 1
        if sign:
            signer.sign(self.lake, log, total, NOON, landed)
        if derive:
            self.derive(landed, log)
        return total

    def derive(self, landed, log=LOG):
        made = normalise.normalise(log.integration, OKTA, STREAM, landed).events
        first, until = landed["seq"][0], landed["seq"][-1] + 1
        events.append(self.lake, log, first, until, lambda: made)

    def fill(self, count=700, batch=100):
        """Run rounds over several days, which gives several files and partial tiles."""
        for number, first in enumerate(range(0, count, batch)):
            self.land(*range(first, min(first + batch, count)), day=number // 3)
        return self

    def verify(self, log=LOG, *, events=True, **options):
        kind = "okta" if events else None
        case = Job(place=self.place, table=log.table, kind=kind, **options)
        with WorkerPool(1) as crew:
            return verify.verify(case, crew)

    def rows(self):
        return pl.read_delta(str(self.table)).sort("seq")

    def vkeys(self):
        return keys.trusted(self.integrity)


def once(monkeypatch, module, name, before):
    """Call `before` the first time the function is called."""
    real, calls = getattr(module, name), []

    def called(*arguments, **options):
        if not calls:
            calls.append(1)
            before()
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, called)
