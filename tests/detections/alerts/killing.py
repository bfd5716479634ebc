"""A pass in a process that kills itself at a named point."""

from __future__ import annotations

import signal
from multiprocessing import get_context

from pipelines.detections.alerts import deliver, passes, queueing
from pipelines.lake import commits
from tests import traps
from tests.detections.alerts.world import settings

POINTS: dict[str, traps.Trap] = {
    "before queueing": (queueing.planning, "rows", False),
    "before a commit": (commits, "_write_once", False),
    "after a commit": (commits, "_write_once", True),
    "after a claim": (deliver, "claim", True),
    "before sending": (deliver, "send", False),
    "after sending": (deliver, "send", True),
    "before the receipt": (deliver, "record", False),
    "after the receipt": (deliver, "record", True),
}
processes = get_context("forkserver")
processes.set_forkserver_preload(["tests.detections.alerts.killing"])


def work(lake, receivers, now, point=None, turn=1):
    """Run a pass; kill this process at the call number `turn` of the function at a point."""
    if point:
        traps.lay(POINTS[point], turn)
    done = passes.pass_once(settings(receivers, give_up_after="365d"), lake, now)
    raise SystemExit("; ".join(done.errors) or 0)


def start(*arguments):
    process = processes.Process(target=work, args=arguments)
    process.start()
    return process


def ended(process):
    """Return whether it was killed; any other end but success is an error."""
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise AssertionError(f"a pass ended with {process.exitcode}")
    return process.exitcode != 0
