"""Options, arguments, settings and forms of output that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Any

import click

from pipelines import engines, settings, visible
from pipelines.engines import Engine
from pipelines.errors import ConfigurationError
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Integration, Stream
from pipelines.settings import Settings, folders, logs

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def _check_engine(_context: click.Context, _param: click.Parameter, value: str) -> str:
    engines.check(value)
    return value


engine = click.option(
    "--engine",
    callback=_check_engine,
    default=engines.PROCESSES,
    show_default=True,
    metavar="NAME",
    help=f"What works on large lakes in parallel: {engines.FORMS}.",
)


def integrations(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of integrations in the configuration that begin with `incomplete`."""
    config = context.find_root().params.get("config") or folders.path_from_environment()
    # A shell that completes a word is no place for an error.
    with suppress(ConfigurationError):
        return [name for name in settings.load(config).integrations if name.startswith(incomplete)]
    return []


def _configure_log(context: click.Context, _param: click.Parameter, value: logs.LogFormat) -> None:
    logs.configure(value)
    context.meta[logs.VARIABLE] = value


log_format = click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    envvar=logs.VARIABLE,
    default="text",
    show_default=True,
    expose_value=False,
    callback=_configure_log,
    help="Form of the log; json is one object a line.",
)
"""For commands that run until they are stopped; configures the log."""


def announcer(
    context: click.Context, *, err: bool = False, level: int = logging.INFO
) -> Callable[[str], None]:
    """Return a function that prints a line, or adds it to a log in JSON."""
    if context.meta.get(logs.VARIABLE) == "json":
        return lambda line: logging.getLogger("auditlake").log(level, "%s", line)
    return lambda line: echo(line, err=err)


names = click.argument("names", nargs=-1, metavar="[INTEGRATION]...", shell_complete=integrations)


class Time(click.ParamType[datetime]):
    """An ISO 8601 time, returned in UTC; without an offset it is taken as UTC."""

    name = "time"

    def convert(self, value: Any, param: Any, context: Any) -> datetime:
        try:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a valid time; use e.g. 2026-03-01 or 2026-03-01T12:00Z")
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def check_order(since: datetime | None, until: datetime | None) -> None:
    """Raise ConfigurationError for a range that contains no time."""
    if since and until and since >= until:
        raise ConfigurationError("--since must be before --until")


def configured(context: click.Context) -> tuple[Settings, Lake]:
    """Return the settings in the file of --config, and their lake. Raises ConfigurationError."""
    chosen = settings.load(context.obj)
    chosen.telemetry.start()
    return chosen, tables.configured(chosen)


def opened_engine(
    context: click.Context, name: str, workers: int | None = None
) -> AbstractContextManager[Engine]:
    """Return the engine of --engine, whose workers on this machine use the same configuration."""
    return engines.opened(name, {folders.CONFIG: str(context.obj.absolute())}, workers)


def stream(integration: Integration, name: str) -> Stream:
    """Return a stream by its name. Raises ConfigurationError if the integration has no such one."""
    streams = {stream.name: stream for stream in integration.streams(None)}
    if name not in streams:
        raise ConfigurationError(
            f"{integration.kind} has no stream {name!r}: use one of {', '.join(streams)}"
        )
    return streams[name]


def json_value(value: Any) -> str:
    """Return a value that JSON lacks as text; times in ISO 8601 with a Z."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words, such as "1 row" or "2,000 rows"."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def echo(line: str = "", *, err: bool = False) -> None:
    """Print one line; characters from outside that could deceive or end it are marked."""
    click.echo(visible.text(line), err=err)


def echo_json(text: str) -> None:
    """Print JSON documents with the characters that could deceive as escapes of JSON."""
    click.echo(visible.json_text(text), nl=bool(text) and not text.endswith("\n"))


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()
) -> list[int]:
    """Print the rows below the header, in columns as wide as their longest cell.

    Returns the widths. Given back, with no header, they continue the same table.
    """
    shown = [[visible.text(cell) for cell in row] for row in (header, *rows) if row]
    longest = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
    widths = list(map(max, longest, widths)) if widths else longest
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return widths
