"""Every vendor with webhooks, with receiver and poller at once, and pushes that go astray."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import uvicorn

from pipelines import registry, settings
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.rounds import Round
from pipelines.lake import reconciliation
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import Settings
from pipelines.webhooks import server as webhook_server
from pipelines.webhooks import subscriptions, worker
from pipelines.webhooks.receiver import Endpoint, Limits, Receiver
from pipelines.webhooks.spool import configured_spool
from pipelines.webhooks.worker import Worker
from sandbox import server
from sandbox.faults import Mishap
from sandbox.server import Options, Running, Sandbox
from sandbox.service import Webhook, webhook_secret
from tests.conftest import raw_table
from tests.waiting import until

PUSHING = [k for k, each in server.services().items() if each.pushes or each.console]
LANDING = ["okta", "cloudflare", "office_365"]
"""Vendors whose pushes contain records; those of the others are hints."""
SECONDS = 6.0
FEWER = {"google_workspace": {"applications": ["login", "drive"]}}


@dataclass
class Clock:
    """A shared clock that stands still until it is started, and can be set forward."""

    origin: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    started: float | None = None
    ahead: timedelta = field(default_factory=timedelta)

    def start(self) -> None:
        self.started = time.monotonic()

    def __call__(self) -> datetime:
        passed = time.monotonic() - self.started if self.started is not None else 0.0
        return self.origin + timedelta(seconds=passed) + self.ahead


@dataclass
class World:
    box: Running
    lake: Lake
    sources: dict[str, Source]
    clock: Clock

    @property
    def sandbox(self) -> Sandbox:
        return self.box.sandbox

    def poll(self, *kinds: str, later: timedelta = timedelta(0)) -> None:
        """Poll once, on a clock that is `later`, so that rereads are due."""
        for kind in kinds:
            with service_client.connect(self.sources[kind]) as client:
                for stream in self.sources[kind].streams():
                    this = Round(lake=self.lake, source=self.sources[kind], stream=stream,
                                 client=client, clock=lambda: self.clock() + later)  # fmt: skip
                    report = rounds.extract(this)
                    assert report.error is None, (kind, stream.name)

    def rows(self, kind: str) -> dict[str, pl.DataFrame]:
        names = [stream.name for stream in self.sources[kind].streams()]
        return {name: raw_table(self.lake, kind, name) for name in names}

    def sent(self, kind: str, *fates: str) -> set[tuple[str, str]]:
        """Return (stream, ID) of the events in pushes with one of these fates."""
        return {
            (carried.stream, carried.id)
            for attempt in self.sandbox.attempts(kind)
            if attempt.fate in fates
            for carried in attempt.carries
        }

    def missing(self, kind: str) -> set[tuple[str, str]]:
        """Return (stream, ID) of acknowledged events that are not in the lake."""
        rows, wanted = self.rows(kind), self.sent(kind, "delivered")
        found = set()
        for name, table in rows.items():
            known = {*table["event_id"], *table["raw_sha256"]}
            for entry in self.sandbox.ledger(kind, name):
                if entry.id in known or entry.sha256 in known:
                    found.add((name, entry.id))
        return wanted - found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = Clock()
    options = Options(seed=11, days=2, per_day=40, rate=12, pace=0.05, anchor=clock.origin,
                      until=clock.origin + timedelta(minutes=1))  # fmt: skip
    with server.running(options, clock) as box, listening() as port:
        document = {
            "lake": {"root": str(tmp_path / "lake")},
            "integrity": {"folder": str(tmp_path / "keys")},
            "integrations": {
                kind: {**box.settings()[kind], **FEWER.get(kind, {})} for kind in PUSHING
            },
            "webhooks": {"public_url": f"http://127.0.0.1:{port.getsockname()[1]}"},
        }
        chosen = settings.validated(Settings, document, "test")
        sources = {source.name: source for source in registry.sources(chosen)}
        world = World(box=box, lake=Lake(chosen.lake.root), sources=sources, clock=clock)
        world.poll(*PUSHING)
        with receiving(world, chosen, port):
            register(world, chosen)
            clock.start()
            yield world


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


@contextmanager
def receiving(world: World, chosen: Settings, port: socket.socket) -> Iterator[None]:
    """Run the receiver and its workers as `auditlake receive` does, but in threads."""
    spool = configured_spool(chosen, world.lake)
    endpoints, workers = [], {}
    for name, source in world.sources.items():
        push = source.integration.push
        assert push
        secret = source.settings.webhook_secret.get_secret_value()
        endpoints.append(Endpoint(source=source, push=push, secret=secret))
        workers[name] = Worker(
            lake=world.lake, source=source, push=push, spool=spool, clock=world.clock
        )
    limits = Limits()
    receiver = Receiver(endpoints, spool, lambda name: workers[name].wake(), limits, world.clock)
    served = uvicorn.Server(webhook_server.config(receiver, limits, host="127.0.0.1", port=0))
    with spool.open(), worker.running(list(workers.values())):
        thread = threading.Thread(target=served.run, args=([port],), daemon=True)
        thread.start()
        try:
            yield
        finally:
            served.should_exit = True
            thread.join()


def register(world: World, chosen: Settings) -> None:
    """Register webhooks by the vendors' APIs, or as an administrator would in a console."""
    root = configured_spool(chosen, world.lake).root
    for kind, source in world.sources.items():
        at = subscriptions.endpoint(chosen, source)
        if server.services()[kind].console:
            headers = {"Authorization": f"Bearer {webhook_secret(kind)}"}
            world.sandbox.register(kind, Webhook(address=at.address, headers=headers))
        else:
            subscriptions.register(source, at, root, world.clock())


def test_every_event_is_stored_once_whether_pushed_or_polled_despite_mishaps(world: World) -> None:
    world.sandbox.mishap(
        Mishap(kind=kind, lost=0.2, twice=0.2, late=0.3, seconds=3.0, seed=5) for kind in PUSHING
    )
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:  # the poller, at the same time
        world.poll(*LANDING)
    world.clock.ahead = timedelta(minutes=3)  # the rest of the minute arrives at once
    assert world.sandbox.courier.settle(420)
    for kind in PUSHING:
        if kind != "opsgenie":  # its hints name no event
            until(lambda kind=kind: not world.missing(kind), f"the events of {kind}")
    world.poll(*PUSHING, later=timedelta(hours=13))
    for kind in PUSHING:
        check(world, kind)


def check(world: World, kind: str) -> None:
    """Check that each event is stored once, with `via` matching the vendor's record of pushes."""
    assert world.sent(kind, "delivered")
    # The vendor counts a delivery as failed if the acknowledgement came too late.
    sent = world.sent(kind, "delivered", "failed", "given up")
    ways = set()
    for name, table in world.rows(kind).items():
        issued = world.sandbox.ledger(kind, name)
        assert table.height == len(issued), (kind, name)
        assert table["event_id"].is_unique().all()
        known = {*table["event_id"], *table["raw_sha256"]}
        assert all(entry.id in known or entry.sha256 in known for entry in issued)
        ways |= set(table["via"])
        by_push = set(table.filter(pl.col("via") == "webhook")["event_id"])
        assert by_push <= {id_ for stream, id_ in sent if stream == name}
    assert ways == ({"poll", "webhook"} if kind in LANDING else {"poll"})
    reconciled(world, kind)


def reconciled(world: World, kind: str) -> None:
    """Check that every push is known, whichever way came first, and was confirmed by polling."""
    pushed = {name: 0 for name, _ in world.sent(kind, "delivered")}
    for stream in world.sources[kind].streams():
        table, log = world.rows(kind)[stream.name], StreamKey(kind, stream.name)
        now = world.clock() + timedelta(days=1)
        found = reconciliation.compare(world.lake, log, (now - timedelta(days=9)).date(), now)
        pushed[stream.name] = found["pushed"].sum()
        assert found["polled"].sum() == table.height
        assert found["unconfirmed"].sum() == 0
        by_push = table.filter(pl.col("via") == "webhook").height
        assert by_push <= found["pushed"].sum() == found["both"].sum() <= table.height
        assert found["pushed_first"].sum() >= by_push
    if kind == "opsgenie":  # its hints name no event
        assert not any(pushed.values())
    else:  # a blob may repeat events that an earlier notification contained
        assert sum(pushed.values()) >= len(world.sent(kind, "delivered"))
