"""All vendors at once: registered, pushed to with mishaps, polled: every event once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import uvicorn

from pipelines import drain, extract, reconciliation, settings, subscriptions, webhooks
from pipelines.drain import Drain
from pipelines.lake import Log
from pipelines.sandbox.faults import Mishap
from pipelines.sandbox.server import Options, running
from pipelines.sandbox.service import Webhook
from pipelines.spool import Spool
from pipelines.webhooks import Door, Limits, Receiver
from tests.conftest import World
from tests.test_up import until
from tests.webhooks.conftest import KINDS, SECRET

CONSOLES = ("atlassian", "jumpcloud", "opsgenie")
ONCE = {"google_workspace": ["admin", "login"], "office_365": ["exchange"]}


@contextmanager
def receiving(world, sources) -> Iterator[tuple[str, dict[str, Drain]]]:
    """A receiver with its drains; where it listens."""
    spool = Spool(world.lake.local / "spool", limit=2**28)
    doors = [Door(source=s, push=s.integration.push, secret=SECRET) for s in sources]
    drains = {s.name: Drain(lake=world.lake, source=s, push=s.integration.push, spool=spool)
              for s in sources}  # fmt: skip
    receiver = Receiver(doors, spool, lambda name: drains[name].wake())
    server = uvicorn.Server(webhooks.config(receiver, Limits(), host="127.0.0.1", port=0))
    with spool.open(), socket.socket() as listening, drain.working(list(drains.values())):
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", drains
        finally:
            server.should_exit = True
            thread.join()


def chosen(address):
    return settings.Settings(webhooks={"public_url": address})


def registered(world, source, address, root):
    """By the vendor's API, or as a person does in its console."""
    if source.kind in CONSOLES:
        webhook = Webhook(
            address=f"{address}/{source.kind}", headers={"Authorization": f"Bearer {SECRET}"}
        )
        world.running.sandbox.register(source.kind, webhook)
        return
    at = subscriptions.endpoint(chosen(address), source)
    enrolled = subscriptions.register(source, at, root, datetime.now(UTC))
    assert enrolled.known
    assert not enrolled.due(datetime.now(UTC))


@pytest.fixture
def moving_world(lake):
    mishaps = [Mishap(kind=kind, lost=0.1, twice=0.2, late=0.2, seconds=0.5) for kind in KINDS]
    options = Options(days=2, per_day=60, rate=30, pace=0.05, mishaps=mishaps)
    with running(options) as server:
        yield World(running=server, lake=lake)


def sources_of(world):
    keys = {kind: {"streams": streams} for kind, streams in ONCE.items()}
    return [world.source(kind, webhook_secret=SECRET, **keys.get(kind, {})) for kind in KINDS]


def test_every_vendor_is_registered_pushes_and_is_read_once(moving_world):
    world = moving_world
    sources = sources_of(world)
    reports = extract.poll(world.lake, sources)
    assert [report.error for report in reports] == [None] * len(reports)
    with receiving(world, sources) as (address, drains):
        root = world.lake.local / "spool"
        for source in sources:
            registered(world, source, address, root)
        until(lambda: all(delivered(world, kind) >= 5 for kind in KINDS), "deliveries of all")
        world.running.sandbox.close()
        until(lambda: not waiting(drains), "all is brought in")
        extract.poll(world.lake, sources)
        for source in sources:
            at = subscriptions.endpoint(chosen(address), source)
            renewed = subscriptions.renew(source, at, root, datetime.now(UTC))
            assert (renewed is None) == (source.kind in CONSOLES)
    for source in sources:
        by_push = sum(once(world, source, stream) for stream in source.streams())
        pushed = sum(told(world, source, stream) for stream in source.streams())
        assert (by_push == 0) == (source.kind in (*CONSOLES, "google_workspace")), source.kind
        assert (pushed == 0) == (source.kind == "opsgenie"), source.kind


def waiting(drains):
    """Where something waits that is not merely a hint without a name."""
    return [name for name, drain in drains.items() if name != "opsgenie" and not drain.idle]


def delivered(world, kind):
    attempts = world.running.sandbox.attempts(kind)
    return sum(each.fate == "delivered" and bool(each.carries) for each in attempts)


def once(world, source, stream):
    """All that was shown until now, each once, whichever way it came; how many by a push."""
    stored = world.stored(source.name, stream.name)
    events = world.events(source.name, stream.name)
    assert stored["event_id"].is_unique().all()
    assert stored["seq"].to_list() == list(range(stored.height))
    assert events["event_uid"].is_unique().all()
    assert set(events["seq"]) == set(stored["seq"])
    by_push = stored.filter(pl.col("via") == "webhook")
    by_poll = stored.filter(pl.col("via") == "poll")["raw_sha256"]
    assert set(by_poll) <= set(world.issued(source.kind, stream.name))
    return by_push.height


def told(world, source, stream):
    """What came both ways is known, what only was pushed is not missed yet; how many pushed."""
    found = reconciliation.reconcile(world.lake, source, stream, datetime.now(UTC))
    known = world.stored(source.name, stream.name)
    assert found["polled"].sum() <= known.height
    assert found["unconfirmed"].sum() == 0
    pushed = found["pushed"].sum()
    assert pushed >= known.filter(pl.col("via") == "webhook").height
    later = reconciliation.compare(
        world.lake,
        Log(source.name, stream.name),
        datetime.now(UTC).date() - timedelta(days=3),
        datetime.now(UTC) + timedelta(days=1),
    )
    assert later["unconfirmed"].sum() == pushed - later["both"].sum()
    return pushed
