"""`auditlake up`: everything at once, and nothing left behind when it ends.

Without a configuration it plays the vendors itself. Children run in sessions of their own, so that
a whole family can be stopped, and die with this process even where that is killed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import httpx
from rich.console import Console

from pipelines import bars, registry, settings, toml
from pipelines.errors import AuditlakeError, ConfigurationError, Unavailable
from pipelines.extraction import report as extraction_report
from pipelines.extraction import rounds
from pipelines.extraction.report import Report
from pipelines.lake import tables
from pipelines.settings import Listen, Settings
from pipelines.webhooks import server as webhook_server
from pipelines.webhooks import subscriptions

PROJECT = Path(__file__).parent.parent
HOME = Path(".dagster")
_START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_LAST_LINES = 15
_MISHAPS = ("--lost", "0.02", "--twice", "0.02", "--late", "0.05")
"""Pushes are lossy, doubled and unordered, by the vendors' own words."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A child that listens, or one that does not and has no address."""

    name: str
    command: Sequence[str]
    listen: Listen | None = None
    key: str = ""
    """Where its port is set."""
    health: str = "/"
    """What of it answers without ado."""

    @property
    def address(self) -> str | None:
        return _address(self.listen) if self.listen else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    server: Server
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raises Unavailable with the end of its log where it has died."""
        code = self.process.poll()
        if code is not None:
            text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            end = "\n".join(f"  {line}" for line in text[-_LAST_LINES:])
            raise Unavailable(f"{self.server.name} ended with code {code}; {self.log} ends:\n{end}")


class Stopped(Exception):
    """Ctrl-C, or SIGTERM."""


def up(config: Path, say: Callable[[str], None], console: Console) -> None:
    """Run everything until somebody stops it. Raises AuditlakeError where it cannot go on."""
    played = not config.exists()
    chosen = _played() if played else settings.load(config)
    registry.sources(chosen)  # what is wrong with them is told before anything starts
    servers = _servers(chosen, played=played)
    _ports_are_free(servers)
    if played:
        say(f"there is no {config}, so the sandbox plays the vendors: all events are simulated")
        config = _sandbox_settings(chosen)
    children: list[Child] = []
    with _stoppable(), _stopping(children, say):
        environment = _environment(config)
        for server in servers:
            children.append(_started(server, environment))
            if server.name == "sandbox":
                _answers(children[-1])
        configured = settings.load(config)
        _first_round(configured, children, say, console)
        if played:
            _register(configured, say)
        children.append(_started(_daemon(), environment))
        say("Dagster's daemon looks for news from now on; Ctrl-C stops everything")
        while True:
            time.sleep(0.5)
            for child in children:
                child.check()


def _played() -> Settings:
    """The settings of the environment alone; what they read is the sandbox."""
    return settings.validated(Settings, {}, "environment")


def _sandbox_settings(chosen: Settings) -> Path:
    """The configuration that reads the sandbox, for all children.

    What was signed is remembered beside it, and forgotten with a lake that is gone: whoever throws
    simulated events away rolls nothing back.
    """
    from sandbox import server  # noqa: PLC0415 not needed with a configuration

    path = HOME.absolute() / "sandbox.toml"
    path.parent.mkdir(exist_ok=True)
    base_url = f"http://{chosen.sandbox.host}:{chosen.sandbox.port}"
    path.touch(mode=0o600)
    integrations = server.settings(base_url)
    signed = HOME.absolute() / "integrity"
    if not Path(chosen.lake.root).exists():
        shutil.rmtree(signed / "lakes", ignore_errors=True)
    pushed_to = _address(chosen.webhooks)
    text = toml.document(integrations, chosen.lake.root, pushed_to, str(signed))
    path.write_text(text, encoding="utf-8")
    return path


def _servers(chosen: Settings, *, played: bool) -> list[Server]:
    pushing = ["--push-to", _address(chosen.webhooks), *_MISHAPS]
    sandbox = Server(
        name="sandbox",
        command=[*_module("pipelines"), "sandbox", *_at(chosen.sandbox), *pushing],
        listen=chosen.sandbox,
        key="sandbox.port",
    )
    dagster = Server(
        name="dagster",
        command=[
            *_module("dagster_webserver"),
            *("-w", str(PROJECT / "workspace.yaml")),
            *_at(chosen.dagster),
        ],
        listen=chosen.dagster,
        key="dagster.port",
    )
    dashboard = Server(
        name="dashboard",
        command=[
            *_module("streamlit"),
            *("run", str(PROJECT / "dashboard" / "app.py")),
            f"--server.address={chosen.dashboard.host}",
            f"--server.port={chosen.dashboard.port}",
            "--server.headless=true",
        ],
        listen=chosen.dashboard,
        key="dashboard.port",
    )
    receiver = Server(
        name="webhooks",
        command=[*_module("pipelines"), "receive"],
        listen=chosen.webhooks,
        key="webhooks.port",
        health="/-/health",
    )
    received = played or any(keys.get("webhook_secret") for keys in chosen.integrations.values())
    return [
        *([sandbox] if played else []),
        *([receiver] if received else []),
        dagster,
        dashboard,
    ]


def _daemon() -> Server:
    command = [*_module("dagster._daemon"), "run", "-w", str(PROJECT / "workspace.yaml")]
    return Server(name="dagster-daemon", command=command)


def _address(listen: Listen) -> str:
    return f"http://{listen.host}:{listen.port}"


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _at(listen: Listen) -> list[str]:
    return ["--host", listen.host, "--port", str(listen.port)]


def _ports_are_free(servers: Sequence[Server]) -> None:
    for server in servers:
        if server.listen is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((server.listen.host, server.listen.port))
            except OSError as error:
                raise ConfigurationError(
                    f"{server.name} cannot listen on {server.listen.host}:{server.listen.port} "
                    f"({error.strerror}): stop what does, or set {server.key} in auditlake.toml "
                    f"(AUDITLAKE_{server.key.upper().replace('.', '__')} in the environment)"
                ) from None


def _environment(config: Path) -> dict[str, str]:
    home = HOME.absolute() / "home"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / "pipelines" / "dagster.yaml", home / "dagster.yaml")
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        "AUDITLAKE_CONFIG": str(config.absolute()),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }


def _started(server: Server, environment: dict[str, str]) -> Child:
    log = HOME / "logs" / f"{server.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            server.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 no thread of ours runs by then
        )
    return Child(server=server, process=process, log=log)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _answers(child: Child) -> None:
    """Wait until the child answers requests. Raises Unavailable where it dies or is too slow."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        child.check()
        with suppress(httpx.TransportError):
            httpx.get(f"{child.server.address}{child.server.health}", timeout=5, trust_env=False)
            return
        time.sleep(0.1)
    raise Unavailable(f"{child.server.name} did not answer in {_START_SECONDS:.0f} s: {child.log}")


def _first_round(
    chosen: Settings, children: Sequence[Child], say: Callable[[str], None], console: Console
) -> None:
    """Extract in this process; tell the addresses once there is something to see."""
    lake, sources = tables.configured(chosen), registry.sources(chosen)
    seen, reports = threading.Event(), []

    def extracted(shown: extraction_report.Progress) -> None:
        def progress(report: Report) -> None:
            shown(report)
            if report.events:
                seen.set()

        reports.extend(rounds.poll(lake, sources, progress=progress))
        seen.set()

    say(f"reading {', '.join(source.name for source in sources)} into {chosen.lake.root}")
    with bars.bars(console) if console.is_terminal else _plain(say) as shown:
        worker = threading.Thread(target=extracted, args=(shown,), daemon=True)
        worker.start()
        _wait(seen.is_set, children)
        for child in children:
            if child.server.name != "sandbox":
                _answers(child)
        _tell_addresses(children, say)
        _wait(lambda: not worker.is_alive(), children)
    for report in reports:
        say(f"  {report.error}" if report.error else f"  {bars.line(report)}")


def _register(chosen: Settings, say: Callable[[str], None]) -> None:
    """The played vendors push from now on, those whose API can be told to."""
    root = webhook_server.open_spool(chosen, tables.configured(chosen)).root
    for source in registry.sources(chosen):
        if source.integration.push and source.integration.push.enrolment:
            try:
                at = subscriptions.endpoint(chosen, source)
                subscriptions.register(source, at, root, datetime.now(UTC))
            except AuditlakeError as error:
                say(f"  {source.name} does not push: {error}")
    say("the vendors push what happens from now on")


@contextmanager
def _plain(say: Callable[[str], None]) -> Iterator[extraction_report.Progress]:
    yield bars.lines(say)


def _wait(ready: Callable[[], bool], children: Sequence[Child]) -> None:
    while not ready():
        time.sleep(0.1)
        for child in children:
            child.check()


def _tell_addresses(children: Sequence[Child], say: Callable[[str], None]) -> None:
    say("the first events can be seen:")
    for child in reversed(children):
        say(f"  {child.server.name:<10} {child.server.address}")


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGINT and SIGTERM raise Stopped, once."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stopping(children: list[Child], say: Callable[[str], None]) -> Iterator[None]:
    """Whatever happens, no child outlives this; the last started is stopped first."""
    try:
        yield
    finally:
        say("stopping")
        for child in reversed(children):
            _signal(child, signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        for child in reversed(children):
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            _signal(child, signal.SIGKILL)
            child.process.wait()


def _signal(child: Child, number: int) -> None:
    """To the whole family: Dagster's code servers are children of its servers."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, number)
