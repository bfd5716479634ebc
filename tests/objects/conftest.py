"""A store and a small sandbox, shared by the tests of a folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.server import Options, Running
from sandbox.server import running as sandbox_running
from tests.objects import s3
from tests.objects.s3 import S3


@pytest.fixture(scope="session")
def server() -> Iterator[S3]:
    with s3.running() as found:
        yield found


@pytest.fixture
def store(server: S3) -> S3:
    """The store, without faults and requests of another test."""
    server.order()
    server.requests()
    return server


@pytest.fixture(scope="session")
def vendors() -> Iterator[Running]:
    """A sandbox with a day of history and no new events."""
    with sandbox_running(Options(days=1, per_day=30, rate=0)) as found:
        yield found
