"""The server of metrics and health, and the command `auditlake metrics`."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import click
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipelines import visible
from pipelines.cli import metrics, processes
from pipelines.cli.options import announcer, configured, echo, log_format
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.settings import Settings
from pipelines.settings.browser_guard import BrowserGuard

_CACHED_SECONDS = 10.0
_CONNECTIONS = 20


@click.command(name="metrics")
@click.option("--serve", is_flag=True, help="Serve /metrics and /healthz on metrics.port instead.")
@log_format
@click.pass_context
def metrics_(context: click.Context, *, serve: bool) -> None:
    """Print metrics once, in the text format of Prometheus; see docs/metrics.md."""
    chosen, lake = configured(context)
    if serve:
        refuse_port_of_receiver(chosen)
        _serve(chosen, lake, announcer(context))
        return
    for line in generate_latest(metrics.registry_of(chosen, lake)).decode().splitlines():
        echo(line)


def refuse_port_of_receiver(chosen: Settings) -> None:
    """Raise ConfigurationError if metrics would be on the port that vendors reach."""
    if chosen.metrics.port == chosen.webhooks.port:
        raise ConfigurationError(
            "metrics.port is the port of the webhook receiver, which is public: choose another"
        )


def app(chosen: Settings, lake: Lake) -> ASGIApp:
    """Return the application, which answers to the names in `metrics.allowed_hosts` only."""
    scrapes = Scrapes(metrics.registry_of(chosen, lake))

    def scrape(_: Request) -> Response:
        try:
            return Response(scrapes.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
        except AuditlakeError as error:
            return _unavailable(str(error))

    def health(_: Request) -> Response:
        reason = ailment(lake)
        return _unavailable(reason) if reason else PlainTextResponse("ok\n")

    routes = [Route("/metrics", scrape), Route("/healthz", health)]
    return BrowserGuard(Starlette(routes=routes), chosen.metrics.names)


def ailment(lake: Lake) -> str | None:
    """Return why this machine cannot read the lake, or None; sends no request to a store."""
    if missing := tables.missing_folder(lake):
        return missing
    try:
        for _ in lake.local.iterdir() if lake.local else ():
            break
    except OSError as error:
        return f"{lake.local}: {error.strerror}"
    return None


def _unavailable(reason: str) -> Response:
    return PlainTextResponse(f"{visible.text(reason)}\n", 503)


@dataclass(slots=True)
class Scrapes:
    """The exposition of a registry, which is collected at most once in some seconds."""

    registry: CollectorRegistry
    clock: Callable[[], float] = time.monotonic
    _text: bytes = b""
    _expires: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def text(self) -> bytes:
        # Scrapes that arrive together share one collection.
        with self._lock:
            if self.clock() >= self._expires:
                self._text = generate_latest(self.registry)
                self._expires = self.clock() + _CACHED_SECONDS
            return self._text


def _serve(chosen: Settings, lake: Lake, announce: Callable[[str], None]) -> None:
    import uvicorn  # noqa: PLC0415 slow to import, for one command

    from pipelines.webhooks import server  # noqa: PLC0415
    from pipelines.webhooks.receiver import Limits  # noqa: PLC0415

    listen = chosen.metrics
    processes.refuse_taken_ports(
        [processes.Server(name="metrics", command=[], listen=listen, key="metrics.port")]
    )
    announce(f"metrics on {listen.address}/metrics; press Ctrl-C to stop")
    limits = Limits(connections=_CONNECTIONS)
    served = server.limited(app(chosen, lake), limits, host=listen.host, port=listen.port)
    with suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        uvicorn.Server(served).run()
