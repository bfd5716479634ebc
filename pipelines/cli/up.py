"""`auditlake up`: run everything, and leave no process behind when it ends.

Without a configuration it polls the built-in sandbox. Each child runs in its own session, so that
it can be stopped with its children, and is terminated when this process dies, even by SIGKILL.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from pipelines import disk, registry, settings
from pipelines.cli import (
    config_file,
    dashboard,
    detecting,
    metrics_server,
    options,
    processes,
    progress,
)
from pipelines.cli.guide import LEAVE
from pipelines.cli.processes import HOME, Child, Server
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.extraction import report as extraction_report
from pipelines.extraction import rounds
from pipelines.extraction.report import Report
from pipelines.integrity import configuration
from pipelines.lake import tables
from pipelines.settings import Listen, Settings, logs
from pipelines.webhooks import subscriptions
from pipelines.webhooks.spool import configured_spool

PROJECT = Path(__file__).parents[2]
_WAITED_FOR = ("sandbox", "dagster-code")
_FIRST_ROUND = "first round"
_FAULTS = ("--lost", "0.02", "--twice", "0.02", "--late", "0.05")
"""Vendors document that webhooks may be lost, duplicated and out of order."""


@click.command(name="up")
@options.log_format
@click.pass_context
def up_(context: click.Context) -> None:
    """Run extraction, Dagster and the dashboard. Ctrl-C stops everything.

    Without auditlake.toml it starts the sandbox, which simulates the vendors, and polls it.
    """
    os.environ[logs.VARIABLE] = chosen = context.meta[logs.VARIABLE]
    console = Console(stderr=True, force_terminal=False if chosen == "json" else None)
    try:
        up(context.obj, options.announcer(context), console)
    finally:
        if any(thread.name == _FIRST_ROUND for thread in threading.enumerate()):
            # Its services are gone, and it would try again for minutes. What it has not
            # committed is fetched by the next round.
            context.meta[LEAVE] = processes.leave


def up(config: Path, echo: Callable[[str], None], console: Console) -> None:
    """Run everything until Ctrl-C or SIGTERM. Raises AuditlakeError if it cannot."""
    simulated = not config.exists()
    chosen = settings.from_environment() if simulated else settings.load(config)
    chosen.telemetry.start()
    registry.sources(chosen)  # reports invalid settings before anything starts
    metrics_server.refuse_port_of_receiver(chosen)
    servers = _servers(chosen, simulated=simulated)
    processes.refuse_taken_ports(servers)
    _prepare_home()
    if simulated:
        echo(f"no {config}: using the built-in sandbox, all events are simulated")
        config = _write_sandbox_config(chosen)
    children: list[Child] = []
    with (
        processes.stoppable(),
        # A path of its own for each start: runs of a server that was killed are known by it.
        tempfile.TemporaryDirectory(prefix="auditlake-") as folder,
        processes.stopping(children, echo),
    ):
        environment = _environment(config)
        for server in [_dagster_code(Path(folder) / "code.sock"), *servers]:
            children.append(processes.start(server, environment))
            if server.name in _WAITED_FOR:
                processes.wait_until_ready(children[-1])
        configured = settings.load(config)
        _first_round(configured, children, echo, console)
        if simulated:
            _register(configured, echo)
        # The daemon starts only now, so that no sensor repeats the first round.
        children.append(processes.start(_dagster_daemon(), environment))
        echo("polling started; press Ctrl-C to stop everything")
        while True:
            processes.pause(0.5)
            for child in children:
                child.check()
                processes.rotate(child.log)


def _prepare_home() -> None:
    """Create the folder of logs and of Dagster's history. Raises ConfigurationError."""
    try:
        disk.private_folder(HOME)
    except OSError as error:
        raise ConfigurationError(
            f"{HOME.absolute()}: {error.strerror}: start it in a folder of your own"
        ) from None


def _write_sandbox_config(chosen: Settings) -> Path:
    """Write the configuration for the sandbox, which all children use, and return its path.

    The record of signed checkpoints lies next to it and is deleted if the lake is gone, since
    deleting simulated events is not a rollback attack.
    """
    from sandbox import server  # noqa: PLC0415 not needed with a configuration

    path = HOME.absolute() / "sandbox.toml"
    path.parent.mkdir(exist_ok=True)
    base_url = chosen.sandbox.address
    # Created with its mode before it has content: it contains secrets.
    path.touch(mode=0o600)
    integrations = server.settings(base_url)
    # Not in the user's own folder, where the real lake's signing keys and records are.
    signed = HOME.absolute() / "integrity"
    if _is_empty(Path(chosen.lake.root)):
        shutil.rmtree(signed / "lakes", ignore_errors=True)
    pushed_to = chosen.webhooks.address
    text = config_file.document(integrations, chosen.lake.root, pushed_to, str(signed))
    path.write_text(text, encoding="utf-8")
    return path


def _is_empty(root: Path) -> bool:
    """Return True if the lake's folder holds at most its README and hidden files, such as locks."""
    found = root.iterdir() if root.is_dir() else ()
    return all(path.name == "README.md" or path.name.startswith(".") for path in found)


def _servers(chosen: Settings, *, simulated: bool) -> list[Server]:
    pushing = ["--push-to", chosen.webhooks.address, *_FAULTS]
    sandbox = Server(
        name="sandbox",
        command=[
            *_module("pipelines"),
            "sandbox",
            *_host_and_port(chosen.sandbox),
            *(f"--allowed-host={host}" for host in chosen.sandbox.allowed_hosts),
            *pushing,
        ],
        listen=chosen.sandbox,
        key="sandbox.port",
    )
    dagster = Server(
        name="dagster",
        command=[
            *_module("pipelines.orchestration.webserver"),
            *("-w", str(_workspace())),
            *_host_and_port(chosen.dagster),
            *_log_format(),
        ],
        listen=chosen.dagster,
        key="dagster.port",
    )
    pages = Server(
        name="dashboard",
        command=dashboard.command(chosen.dashboard),
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
    receives = simulated or any(keys.get("webhook_secret") for keys in chosen.integrations.values())
    metrics = Server(
        name="metrics",
        command=[*_module("pipelines"), "metrics", "--serve"],
        listen=chosen.metrics,
        key="metrics.port",
        health="/healthz",
    )
    return [
        *([sandbox] if simulated else []),
        *([receiver] if receives else []),
        *([metrics] if chosen.metrics.enabled else []),
        dagster,
        pages,
    ]


def _dagster_code(socket: Path) -> Server:
    """Return the server that loads the definitions, for the web server and the daemon together.

    Without it, the daemon starts a server of its own every minute, and stops the one before it.
    """
    location = {"grpc_server": {"socket": str(socket), "location_name": "auditlake"}}
    _workspace().parent.mkdir(parents=True, exist_ok=True)
    _workspace().write_text(json.dumps({"load_from": [location]}), encoding="utf-8")
    return Server(
        name="dagster-code",
        command=[
            *_module("dagster"),
            *("api", "grpc", "--socket", str(socket)),
            *("-m", "pipelines.definitions", "--location-name", "auditlake"),
            # Otherwise Dagster imports from the current folder first.
            *("--working-directory", str(PROJECT)),
            *_log_format(),
        ],
        socket=socket,
    )


def _dagster_daemon() -> Server:
    command = [*_module("dagster._daemon"), "run", "-w", str(_workspace())]
    # Dagster's pages show each tick of a sensor; three lines per tick would fill the log.
    return Server(
        name="dagster-daemon", command=[*command, "--log-level", "warning", *_log_format()]
    )


def _workspace() -> Path:
    """Return the path of Dagster's workspace file; its contents are also valid YAML."""
    return HOME.absolute() / "workspace.yaml"


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _host_and_port(listen: Listen) -> list[str]:
    return ["--host", listen.host, "--port", str(listen.port)]


def _log_format() -> list[str]:
    """Return the option of Dagster's programs."""
    return ["--log-format", "json"] if logs.from_environment() == "json" else []


def _environment(config: Path) -> dict[str, str]:
    """Return the environment of the children, after preparing Dagster's home directory."""
    theirs = os.environ.get("DAGSTER_HOME")
    home = Path(theirs or HOME / "home").expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copy(PROJECT / "pipelines" / "orchestration" / "dagster.yaml", home)
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return {
        # Steps are short, and each process of Dagster takes seconds to start.
        "AUDITLAKE_DAGSTER__IN_PROCESS": "true",
        "AUDITLAKE_DAGSTER__DEDICATED": "false" if theirs else "true",
        **os.environ,
        "AUDITLAKE_CONFIG": str(config.absolute()),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": path,
        # A user's own module `pipelines` in the current folder must not replace this one.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _first_round(
    chosen: Settings, children: Sequence[Child], echo: Callable[[str], None], console: Console
) -> None:
    """Poll once in this process, then evaluate the rules.

    Prints the addresses as soon as there are events to see.
    """
    lake, sources = tables.configured(chosen), registry.sources(chosen)
    configuration.declare(lake, sources, chosen.retention, utc_now())
    has_events, reports, findings = threading.Event(), [], list[str]()

    def poll(show: extraction_report.Progress) -> None:
        def on_progress(report: Report) -> None:
            show(report)
            if report.events:
                has_events.set()

        reports.extend(rounds.poll(lake, sources, progress=on_progress))
        has_events.set()
        detecting.detect(chosen, lake, sources, findings.append)

    echo(f"fetching {', '.join(source.name for source in sources)} into {chosen.lake.root}")
    with progress.bars(console) if console.is_terminal else _progress_lines(echo) as show:
        # In a thread, so that Ctrl-C and the death of a child are noticed during a long poll.
        worker = threading.Thread(target=poll, args=(show,), daemon=True, name=_FIRST_ROUND)
        worker.start()
        processes.wait(has_events.is_set, children)
        for child in children:
            if child.server.name != "sandbox":
                processes.wait_until_ready(child)
        _print_addresses(children, echo)
        processes.wait(lambda: not worker.is_alive(), children)
    for report in reports:
        echo(f"  {report.error}" if report.error else f"  {progress.line(report)}")
    for said in findings:
        echo(f"  {said}")


def _register(chosen: Settings, echo: Callable[[str], None]) -> None:
    """Register webhooks with the simulated vendors that have an API for it."""
    root = configured_spool(chosen, tables.configured(chosen)).root
    for source in registry.sources(chosen):
        if source.integration.push and source.integration.push.subscription_api:
            processes.pause(0)
            try:
                at = subscriptions.endpoint(chosen, source)
                subscriptions.register(source, at, root, utc_now())
            except AuditlakeError as error:
                echo(f"  {source.name}: webhook not registered: {error}")
    echo("webhooks registered: new events are now pushed")


@contextmanager
def _progress_lines(echo: Callable[[str], None]) -> Iterator[extraction_report.Progress]:
    yield progress.lines(echo)


def _print_addresses(children: Sequence[Child], echo: Callable[[str], None]) -> None:
    echo("the first events are available:")
    for child in reversed(children):
        if child.server.address:
            echo(f"  {child.server.name:<10} {child.server.address}")
