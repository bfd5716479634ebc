"""A process whose clock is wrong loses nothing; libfaketime hides the true time from all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from pipelines.lake.tables import Lake
from sandbox.server import Options, running
from tests.conftest import World
from tests.promises import ledgers
from tests.tiers import FULL

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
STREAMS = {
    "okta": "system_log",
    "google_workspace": "login",
    "entra_id": "sign_ins",
    "office_365": "exchange",
    "cloudflare": "audit_logs",
    "atlassian": "events",
    "jumpcloud": "directory_insights",
    "opsgenie": "logs",
}
# Each line on stdin is a round; the answer lists the errors of its streams.
POLLS = """
import json, sys
from pipelines import registry
from pipelines.extraction import rounds
from pipelines.lake.tables import Lake
root, chosen = json.loads(sys.stdin.readline())
sources = [registry.source(kind, keys) for kind, keys in chosen.items()]
for _ in sys.stdin:
    reports = rounds.poll(Lake(root), sources)
    print(json.dumps([report.error for report in reports if report.error]), flush=True)
"""
DAY = 86_400.0
WORLDS = {
    "three days ahead": [3 * DAY, 3 * DAY, 0],
    "three days behind": [0, -3 * DAY, 0],
    "four hundred days ahead": [400 * DAY, 0],
    "back and forth": [2 * DAY, -2 * DAY, 3_600, -3_600, 0],
}
CHOSEN = WORLDS if FULL else ["back and forth"]


@dataclass
class Vendors:
    """The time of the vendors, which the test moves ahead of the machine's."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Process:
    """A process that polls by a clock of its own."""

    rate: Path
    commands: IO[str]
    answers: IO[str]

    def poll(self, ahead: float) -> list[str]:
        """Poll once with the clock so many seconds ahead of the machine's; return the errors."""
        self.rate.write_text(f"{ahead:+.0f}\n")
        self.commands.write("poll\n")
        self.commands.flush()
        errors: list[str] = json.loads(self.answers.readline())
        return errors


@contextmanager
def process(folder: Path, world: World) -> Iterator[Process]:
    rate = folder / "clock"
    rate.write_text("+0\n")
    fake = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(rate),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    settings = world.running.settings()
    chosen = {
        kind: {**settings[kind], "streams": [stream], "history": "30d"}
        for kind, stream in STREAMS.items()
    }
    with subprocess.Popen(
        [sys.executable, "-c", POLLS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **fake},
        text=True,
    ) as child:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps([world.lake.root, chosen]) + "\n")
        yield Process(rate=rate, commands=child.stdin, answers=child.stdout)
        child.stdin.close()


@pytest.mark.skipif(LIBRARY is None, reason="needs Debian's package faketime")
@pytest.mark.parametrize("name", CHOSEN)
def test_a_process_with_a_wrong_clock_loses_nothing(tmp_path, name):
    vendors = Vendors()
    with running(Options(days=0, per_day=0, rate=0), vendors) as server:
        world = World(running=server, lake=Lake(str(tmp_path / "lake")))
        with process(tmp_path, world) as polling:
            for error in WORLDS[name]:
                vendors.ahead += timedelta(hours=3)
                now = vendors()
                for kind, stream in STREAMS.items():
                    times = ledgers.spread(now - timedelta(hours=2), now, 5)
                    ledgers.arrive(server, kind, stream, times)
                polling.poll(vendors.ahead.total_seconds() + error)
            vendors.ahead += timedelta(hours=1)
            assert polling.poll(vendors.ahead.total_seconds()) == []
        for kind, stream in STREAMS.items():
            assert ledgers.difference(world, kind, stream) == "", (kind, stream)
