"""Kills detection at named points, and lets workers race, while rows land.

(Not -m: a forked process would import the module again.)
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest

from pipelines.detections import engine, rules, ruleset, windows
from pipelines.lake import commits
from pipelines.lake import findings as table
from pipelines.lake.tables import Lake
from tests import places, traps
from tests.detections.ruled import written
from tests.detections.watched import correlation, covered, jumpcloud, land, okta, rule
from tests.detections.watched import table as rows_of
from tests.places import Place

POINTS: dict[str, traps.Trap] = {
    "before rulesets": (table, "register", False),
    "before hits": (table, "append_hits", False),
    "after hits": (table, "append_hits", True),
    "before a commit": (commits, "_write_once", False),
    "after a commit": (commits, "_write_once", True),
    "before evaluations": (table, "flush_at", False),
    "in windows": (windows, "revisions", True),
}
FAILURE = {"outcome": {"result": "FAILURE"}}
PEOPLE = [f"{name}@example.com" for name in ("ada", "bob", "eve")]
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.detections.kills"])


def rules_in(folder: Path) -> Path:
    """Write rules over one log, over all events, and correlations of them."""
    return written(
        folder,
        rule(1, {"eventType|startswith": "user.mfa"}),
        rule(2, {"outcome": "failure"}, product="auditlake"),
        rule(3, {"action": "user_delete"}, product="auditlake"),
        {**correlation(8, [2], gte=3), "correlation": _shown(correlation(8, [2], gte=3))},
        correlation(9, [3], gte=2, span="2h"),
    )


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {**document["correlation"], "generate": True}
    return found


def events(lake: Lake, chance: random.Random, number: int) -> None:
    """Let some rows land in two logs, in no order."""
    numbers = range(number * 10, number * 10 + 6)
    land(
        *(lake, "okta"),
        *(
            okta(
                n,
                chance.choice(["user.session.start", "user.mfa.factor.reset_all"]),
                minute=chance.randrange(120),
                who=chance.choice(PEOPLE),
                **chance.choice([{}, FAILURE]),
            )
            for n in numbers
        ),
        entries=[covered()],
    )
    land(
        *(lake, "jumpcloud"),
        *(
            jumpcloud(
                n,
                chance.choice(["user_login_attempt", "user_delete"]),
                minute=chance.randrange(120),
                who=chance.choice(PEOPLE),
                success=chance.random() < 0.5,
            )
            for n in numbers
        ),
        entries=[covered()],
    )


class Ended(BaseException):
    """Ends the work in this process, as a kill ends a process of its own."""


def end() -> NoReturn:
    raise Ended


def work(
    lake: Lake, file: Path, point: str, turn: int, ends: Callable[[], NoReturn] = traps.kill
) -> None:
    """Detect in small commits; the trap ends it at its `turn`-th call."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "ROWS", 5)
        if point:
            module, name, _ = trap = POINTS[point]
            patched.setattr(module, name, traps.deadly(trap, turn, ends))
        for _ in engine.detect(lake, ruleset.compiled(rules.load([file]))):
            pass


def start(lake: Lake, file: Path, point: str = "", turn: int = 0) -> BaseProcess:
    process = processes.Process(target=work, args=(lake, file, point, turn))
    process.start()
    return process


def survives(lake: Lake, file: Path, chance: random.Random, *, here: bool) -> bool:
    """Return whether the work came to its end before the trap ended it."""
    point, turn = chance.choice([*POINTS]), chance.randint(1, 6)
    if here:
        try:
            work(lake, file, point, turn, end)
        except Ended:
            return False
        return True
    process = start(lake, file, point, turn)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def killed(
    folder: Path, kills: int, seed: int, *, real: float, place: Place | None = None
) -> Iterator[str]:
    """Kill so many times over some lakes, and yield what is wrong with each lake, or "" if not.

    `real` is the share of kills of a process; the others end the work in this one.
    """
    chance, file = random.Random(seed), rules_in(folder)
    number = done = 0
    while done < kills:
        number += 1
        lake = (place or Place(str(folder))).lake(f"lake-{number}")
        for part in range(3):
            events(lake, chance, part)
            while done < kills:
                if survives(lake, file, chance, here=chance.random() >= real):
                    break
                done += 1
        work(lake, file, "", 0)
        yield wrong(lake, file, folder / f"other-{number}")


def wrong(lake: Lake, file: Path, other: Path) -> str:
    """Return what differs from a lake with the same rows on which detection ran once."""
    made = ruleset.compiled(rules.load([file]))
    expected = Lake(str(other))
    for name in ("raw/okta/system_log", "raw/jumpcloud/directory_insights", "events", "streams"):
        _copy(lake, expected, name)
    _copy(lake, expected, "coverage")
    for _ in engine.detect(expected, made):
        pass
    found, wanted = rows_of(lake, "findings"), rows_of(expected, "findings")
    if found["seq"].sort().to_list() != list(range(found.height)):
        return "seq has gaps"
    if found.select("finding_uid", "revision").is_duplicated().any():
        return "a finding is there twice"
    if not standing(found).equals(standing(wanted)):
        return f"{standing(found).height} findings instead of {standing(wanted).height}"
    return tiles(lake)


def _copy(lake: Lake, other: Lake, name: str) -> None:
    for path, content in places.files(lake, name).items():
        places.put(other, path, content)


def standing(found: pl.DataFrame) -> pl.DataFrame:
    """Return what the newest revisions say, apart from when and by which set of rules."""
    kept = ("finding_uid", "time", "since", "count", "event_uids", "entity", "rule_id", "message")
    newest = windows.newest(found).filter(pl.col("status") == "found")
    return newest.select(*kept).sort("finding_uid")


def tiles(lake: Lake) -> str:
    """Return "" if the evaluations show each row of each stream exactly once."""
    seen = rows_of(lake, "evaluations").filter(pl.col("rule_id").is_null())
    for (stream,), ranges in seen.sort("since_seq").group_by("stream"):
        ends = [0, *ranges["until_seq"]]
        if ends[:-1] != ranges["since_seq"].to_list():
            return f"evaluations of {stream}: {ranges.select('since_seq', 'until_seq').rows()}"
    return ""


def race(folder: Path, workers: int, seed: int, place: Place | None = None) -> str:
    """Let workers detect at once while rows land, and return what is wrong, or ""."""
    chance, file = random.Random(seed), rules_in(folder)
    lake = (place or Place(str(folder))).lake("race")
    for part in range(3):
        events(lake, chance, part)
        racers = [start(lake, file) for _ in range(workers)]
        events(lake, chance, 10 + part)
        for racer in racers:
            racer.join()
            if racer.exitcode:
                return f"exit {racer.exitcode}"
    last = start(lake, file)
    last.join()
    return wrong(lake, file, folder / "other")
