"""Fixtures: sandboxes that run, and a receiver of their pushes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from pipelines import registry
from sandbox import server
from sandbox.server import Options, Running, Sandbox
from tests.sandbox.receivers import Receiver, receiving
from tests.sandbox.setups import PRESENT, PUSHING, SECONDS, SMALL, Clock


@pytest.fixture(scope="module")
def box() -> Iterator[Running]:
    """For tests that change nothing."""
    with server.running(SMALL, Clock()) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(clock: Clock) -> Iterator[Running]:
    """For tests that change something."""
    with server.running(SMALL, clock) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def present() -> Clock:
    return Clock(PRESENT)


@pytest.fixture
def pushing(present: Clock) -> Iterator[Running]:
    """A sandbox that retries pushes at once; its clock stands at the present."""
    with server.running(PUSHING, present) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Sandbox:
    """Another company, whose records are new to the first one's services."""
    return Sandbox(Options(seed=8, days=20, per_day=60, rate=0, anchor=PRESENT))


@pytest.fixture
def happen(pushing: Running, elsewhere: Sandbox) -> Callable[..., list[bytes]]:
    def happened(kind: str, stream: str, count: int, start: int = 0) -> list[bytes]:
        """Add `count` records that arrive now, wait for their pushes, and return their bytes."""
        found = [r.raw for r in elsewhere.log(kind, stream).visible()[start : start + count]]
        pushing.sandbox.append(kind, stream, found)
        assert pushing.sandbox.courier.settle(SECONDS)
        return found

    return happened


@pytest.fixture
def signed_in(pushing: Running) -> Iterator[Callable[[str], httpx.Client]]:
    clients: list[httpx.Client] = []

    def client(kind: str) -> httpx.Client:
        source = registry.source(kind, pushing.settings()[kind])
        auth = source.integration.auth(source.settings)
        clients.append(httpx.Client(base_url=source.settings.base_url, auth=auth, timeout=30))
        return clients[-1]

    yield client
    for each in clients:
        each.close()
