"""Kills rounds at random and at named points, and checks the lakes they leave.

`python -c "from tests.promises import kills; kills.main(1000)"` kills a thousand times, half of
them at random, and prints the differences between the records issued and stored; `make soak` runs
it.
(Not -m: a forked process would import the module again.)
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipelines import registry
from pipelines.extraction import batches, derive, rounds
from pipelines.lake import commits, compaction, maintenance
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from sandbox.server import Options, Running, running, settings
from tests import traps
from tests.conftest import World
from tests.places import Place
from tests.promises.ledgers import difference

BATCH = 300
KIND, STREAM = "okta", "system_log"
FAR = date(2100, 1, 1)
POINTS: dict[str, traps.Trap | None] = {
    "at random": None,
    "after fetch": (rounds, "_land", False),
    "before commit": (commits, "_write_once", False),
    "after commit": (commits, "_write_once", True),
    "before events": (derive, "derive", False),
    "in maintenance": (compaction, "compact", True),
    "before vacuum": (maintenance, "_vacuum", False),
}
HOUSEKEEPING = ("in maintenance", "before vacuum")
# A server that has imported all of this forks a process in some milliseconds.
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.promises.kills"])


def history() -> Options:
    """Some pages of records, and no new ones."""
    return Options(days=3, per_day=800, rate=0)


def lake_in(folder: Path, name: str, place: Place | None = None) -> Lake:
    """Return a signed lake, whose keys are in the folder; so is the lake, without a place."""
    integrity = IntegritySettings(folder=folder / f"{name}-keys")
    return (place or Place(str(folder))).lake(name, integrity=integrity)


def work(lake: Lake, keys: dict[str, Any], point: str, turn: int) -> None:
    """Run a round in small commits, after maintenance; the trap kills at its `turn`-th call."""
    batches._BATCH_RECORDS = BATCH
    compaction._FILES_CLOSED = 0
    if trap := POINTS[point]:
        traps.lay(trap, turn)
    if point in HOUSEKEEPING:
        list(maintenance.maintain(lake, [], FAR))
    for report in rounds.poll(lake, [registry.source(KIND, keys)]):
        if report.error:
            sys.exit(report.error)


def tidy(lake: Lake, stop: Any) -> None:
    """Run maintenance without a pause."""
    while not stop.is_set():
        list(maintenance.maintain(lake, [], FAR))


def start(lake: Lake, keys: dict[str, Any], point: str = "at random", turn: int = 0) -> BaseProcess:
    process = processes.Process(target=work, args=(lake, keys, point, turn))
    process.start()
    return process


def killed(lake: Lake, keys: dict[str, Any], point: str, chance: random.Random) -> bool:
    """Return True if the round was killed before it ended by itself."""
    process = start(lake, keys, point, chance.randint(1, 3))
    process.join(chance.uniform(0.0, 0.6) if point == "at random" else 60)
    if process.is_alive():
        process.kill()
        process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise AssertionError(f"{point}: a round ended with {process.exitcode}")
    return process.exitcode != 0


def many(
    server: Running, folder: Path, counts: dict[str, int], seed: int, place: Place | None = None
) -> Iterator[str]:
    """Kill `counts[point]` times at each point; yield the difference of each finished lake, or "".

    A lake is filled before its housekeeping is killed: an empty one has nothing to compact.
    """
    chance, keys = random.Random(seed), server.settings()[KIND]
    left, number = Counter(counts), 0
    while left.total():
        number += 1
        world = World(running=server, lake=lake_in(folder, str(number), place))
        for among in (set(POINTS) - set(HOUSEKEEPING), set(HOUSEKEEPING)):
            _kill(world.lake, keys, left, among, chance)
            last = start(world.lake, keys)
            last.join()
        yield difference(world, KIND, STREAM) or (f"exit {last.exitcode}" if last.exitcode else "")
        if world.lake.local:
            shutil.rmtree(world.lake.local)


def _kill(
    lake: Lake, keys: dict[str, Any], left: Counter[str], among: set[str], chance: random.Random
) -> None:
    """Kill until a round ends by itself, or none of these kills is left."""
    while points := sorted(point for point in left.elements() if point in among):
        point = chance.choice(points)
        if not killed(lake, keys, point, chance):
            return
        left[point] -= 1


def race(pollers: int, base_url: str, place: Place) -> None:
    """Run `pollers` rounds of one stream at once, during constant maintenance."""
    lake, stop = place.lake("race"), processes.Event()
    keys = settings(base_url)[KIND]
    tidier = processes.Process(target=tidy, args=(lake, stop))
    tidier.start()
    racers = [start(lake, keys) for _ in range(pollers)]
    for racer in racers:
        racer.join()
    stop.set()
    tidier.join()
    ended = [process.exitcode for process in (*racers, tidier)]
    sys.exit(f"exit codes {ended}" if any(ended) else 0)


def main(kills: int) -> None:
    seed, started = int(time.time()), datetime.now(UTC)
    print(f"{kills:,} kills, seed {seed}")
    each = {point: kills // 2 // (len(POINTS) - 1) for point in POINTS}
    each["at random"] = kills - sum(each[point] for point in POINTS if POINTS[point])
    wrong = lakes_done = 0
    with running(history()) as server, tempfile.TemporaryDirectory() as folder:
        for problem in many(server, Path(folder), each, seed):
            lakes_done, wrong = lakes_done + 1, wrong + bool(problem)
            print(f"lake {lakes_done}: {problem or 'issued and stored agree'}", flush=True)
    took = datetime.now(UTC) - started
    print(f"{sum(each.values()):,} kills over {lakes_done:,} lakes in {took}: ", end="")
    print(f"{wrong:,} differ" if wrong else "0 lost, 0 twice, bytes equal")
    sys.exit(bool(wrong))
