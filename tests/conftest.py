"""Shared by all tests. Property tests have no deadline, since machines differ in speed.

Workers take tests one by one, but a file whose tests share a server or a browser goes to one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from hypothesis import settings

from pipelines import registry
from pipelines.extraction import report, rounds
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS, RAW
from pipelines.sdk.contract import Source
from sandbox.faults import Fault
from sandbox.server import Options, Running, running
from tests import places
from tests.objects import azure, s3
from tests.objects.azure import Azure
from tests.objects.s3 import S3
from tests.places import Place
from tests.tiers import FULL
from tests.waiting import free_ports

settings.register_profile("auditlake", deadline=None, max_examples=60 if FULL else 25)
settings.load_profile("auditlake")

_TOGETHER = ("tests/clients/", "tests/dashboard/", "tests/objects/", "tests/sandbox/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are processors, since many tests wait for servers."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = places.unsampled(items)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.nodeid.startswith(_TOGETHER):
            browser = item.get_closest_marker("browser") is not None
            group = "browser" if browser else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep rate limits, poll times and keys of tests apart from those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(azure.URL, f"http://127.0.0.1:{free_ports(1)[0]}")
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def same_main() -> Iterator[None]:
    """Restore `__main__`: Streamlit's tests replace it, and spawned processes would run it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def server() -> Iterator[S3]:
    with s3.running() as found:
        yield found


@pytest.fixture
def store(server: S3) -> S3:
    """An object store, without faults and requests of another test."""
    server.order()
    server.requests()
    return server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    try:
        program = azure.installed(tmp_path_factory.mktemp("azurite"))
    except azure.Missing as reason:
        pytest.skip(str(reason))
    with azure.running(program) as found:
        yield found


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The folder of the test, or the object store that `places.everywhere` names."""
    match getattr(request, "param", places.DISK):
        case places.S3:
            store: S3 = request.getfixturevalue("store")
            return Place(store.root(), store.options)
        case places.AZURE:
            azurite: Azure = request.getfixturevalue("azurite")
            return Place(azurite.root(), azurite.options)
    return Place(str(tmp_path))


@pytest.fixture
def lake(place: Place) -> Lake:
    return place.lake()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A running sandbox, and a lake that reads it."""

    running: Running
    lake: Lake

    def source(self, kind: str, **keys: object) -> Source:
        return registry.source(kind, {**self.running.settings()[kind], **keys})

    def poll(self, *kinds: str, **options: object) -> list[report.Report]:
        return rounds.poll(self.lake, [self.source(kind) for kind in kinds], **options)

    def issued(self, kind: str, stream: str) -> list[str]:
        """Return the SHA-256 of every record the vendor has shown so far, in order of arrival."""
        return [entry.sha256 for entry in self.running.sandbox.ledger(kind, stream)]

    def stored(self, kind: str, stream: str) -> pl.DataFrame:
        return raw_table(self.lake, kind, stream)

    def events(self, kind: str, stream: str) -> pl.DataFrame:
        table = tables.scan(self.lake, "events")
        if table is None:
            return pl.DataFrame(schema=EVENTS)
        ours = (pl.col("integration") == kind) & (pl.col("stream") == stream)
        return table.filter(ours).collect().sort("seq")

    def disorder(self, *faults: Fault) -> None:
        """Replace the faults; requests are counted from 0 again."""
        self.running.sandbox.order(faults)


def raw_table(lake: Lake, integration: str, stream: str) -> pl.DataFrame:
    """Return all rows of a raw table by seq; empty if there is no table."""
    table = tables.scan(lake, f"raw/{integration}/{stream}")
    return pl.DataFrame(schema=RAW) if table is None else table.collect().sort("seq")


@pytest.fixture
def still_world(lake: Lake) -> Iterator[World]:
    """A sandbox with a few days of history and no new events."""
    options = Options(days=4, per_day=150, rate=0)
    with running(options) as server:
        yield World(running=server, lake=lake)
