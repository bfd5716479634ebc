"""Child processes of `auditlake up`: start, wait until ready, stop the whole process group."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from pipelines.errors import ConfigurationError, Unavailable
from pipelines.settings import Listen

HOME = Path(".dagster")
_START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_LAST_LINES = 15
_LOG_BYTES = 10_000_000
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A child process to start; `listen` is None where it has no port."""

    name: str
    command: Sequence[str]
    listen: Listen | None = None
    key: str = ""
    """The setting of its port."""
    health: str = "/"
    """A path that responds quickly, to check whether the server is ready."""
    socket: Path | None = None
    """The Unix socket of a server that speaks no HTTP."""

    @property
    def address(self) -> str | None:
        return self.listen.address if self.listen else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    server: Server
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise Unavailable with the end of its log if it has died."""
        code = self.process.poll()
        if code is not None:
            text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            end = "\n".join(f"  {line}" for line in text[-_LAST_LINES:])
            raise Unavailable(
                f"{self.server.name} exited with code {code}; last lines of {self.log}:\n{end}"
            )


class Stopped(Exception):
    """Ctrl-C, or SIGTERM."""


def refuse_taken_ports(servers: Sequence[Server]) -> None:
    """Raise ConfigurationError if a server's port is in use."""
    for server in servers:
        if server.listen is None:
            continue
        family = socket.AF_INET6 if ":" in server.listen.host else socket.AF_INET
        with socket.socket(family) as probe:
            # As the servers do: otherwise a port in TIME_WAIT would count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((server.listen.host, server.listen.port))
            except OSError as error:
                raise ConfigurationError(
                    f"{server.name} cannot listen on {server.listen.address} "
                    f"({error.strerror}): stop the process that uses the port, or set {server.key} "
                    "in auditlake.toml "
                    f"(AUDITLAKE_{server.key.upper().replace('.', '__')} in the environment)"
                ) from None


def start(server: Server, environment: dict[str, str]) -> Child:
    """Start a server in its own session, with its output in a log file."""
    log = HOME / "logs" / f"{server.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    # Appending, so that writing continues at the start of the file once `rotate` has emptied it.
    with log.open("ab") as out:
        process = subprocess.Popen(
            server.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # A terminal's Ctrl-C would otherwise reach the children before `stopping` does.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 no other thread runs yet
        )
    return Child(server=server, process=process, log=log)


def rotate(log: Path, limit: int = _LOG_BYTES) -> None:
    """Move the contents of a log to `NAME.log.1` once it is larger than `limit`.

    Lines that are written between copying and emptying are lost.
    """
    if log.stat().st_size > limit:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _die_with_parent() -> None:
    # Without it, a SIGKILL of this process would leave the children running.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def wait_until_ready(child: Child) -> None:
    """Wait until the child answers requests.

    Raises Unavailable if it dies or takes too long, Stopped as `pause` does.
    """
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        child.check()
        if _responds(child.server):
            return
        pause(0.1)
    raise Unavailable(
        f"{child.server.name} did not respond within {_START_SECONDS:.0f} s: see {child.log}"
    )


def _responds(server: Server) -> bool:
    """Return True if the server is listening; any response will do, even an error."""
    if server.socket:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(server.socket)) == 0
    with suppress(httpx.TransportError):
        httpx.get(f"{server.address}{server.health}", timeout=5, trust_env=False)
        return True
    return False


def wait(ready: Callable[[], bool], children: Sequence[Child]) -> None:
    """Wait until `ready` returns True.

    Raises Unavailable if a child dies meanwhile, Stopped as `pause` does.
    """
    while not ready():
        pause(0.1)
        for child in children:
            child.check()


class _Request:
    """Whether a signal has asked this process to stop.

    A flag, since an exception raised by a signal handler could leave a lock of subprocess held.
    """

    made = False


def pause(seconds: float) -> None:
    """Sleep. Raises Stopped if SIGINT or SIGTERM has arrived."""
    if not _Request.made:
        time.sleep(seconds)
    if _Request.made:
        raise Stopped


def leave(code: int) -> NoReturn:
    """End this process at once; Python would wait for all threads of pools."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


@contextmanager
def stoppable() -> Iterator[None]:
    """End the block when `pause` raises Stopped, after the first SIGINT or SIGTERM."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        _Request.made = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        pass
    finally:
        _Request.made = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping(children: list[Child], echo: Callable[[str], None]) -> Iterator[None]:
    """Stop all children on exit, whatever the reason; the last one started is stopped first."""
    try:
        yield
    finally:
        echo("stopping")
        for child in reversed(children):
            _signal(child, signal.SIGTERM)
        # One deadline for all: they terminate in parallel.
        until = time.monotonic() + _STOP_SECONDS
        for child in reversed(children):
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            # Also after a clean exit: members of its group may have survived SIGTERM.
            _signal(child, signal.SIGKILL)
            child.process.wait()


def _signal(child: Child, number: int) -> None:
    """Signal the child's process group: Dagster's code servers are children of its servers."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)
