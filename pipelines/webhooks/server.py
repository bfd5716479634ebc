"""The receiver's server: HTTP with deadlines, one endpoint per integration, and the workers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.errors import ConfigurationError
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.settings import Settings, WebhookSettings, is_loopback
from pipelines.webhooks import dagster_reports, worker
from pipelines.webhooks.receiver import Endpoint, Limits, Receiver
from pipelines.webhooks.spool import Spool
from pipelines.webhooks.subscriptions import Renewer
from pipelines.webhooks.worker import Worker


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 that waits only so long for a request's head, and ends in a way the other sees.

    uvicorn itself has no limit for a head that comes slowly, or never.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._waiting_since = self.loop.time()
        self._look_again()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()

    def _look_again(self) -> None:
        """A head that is overdue ends the connection."""
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()
        left = self._waiting_since + self.limits.head_seconds - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self.loop.call_later(min(left, 1.0) + 0.01, self._look_again)


def config(receiver: Receiver, limits: Limits, *, host: str, port: int) -> uvicorn.Config:
    protocol = type("Protocol", (DeadlineProtocol,), {"limits": limits})
    return uvicorn.Config(
        receiver.app,
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        http=protocol,
        loop="asyncio",
        ws="none",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=limits.head,
        backlog=512,
    )


def serve(
    chosen: Settings, lake: Lake, sources: Sequence[Source], say: Callable[[str], None]
) -> None:
    """Receive and drain until interrupted. Raises ConfigurationError."""
    listen = chosen.webhooks
    limits = Limits(per_second=listen.per_second)
    doors = _endpoints(sources, listen, say)
    spool = open_spool(chosen, lake)
    with spool.open(), dagster_reports.reporter(chosen.dagster) as told:
        drains = {
            door.source.name: Worker(
                lake=lake, source=door.source, push=door.push, spool=spool, told=told.report
            )
            for door in doors
        }
        receiver = Receiver(doors, spool, lambda name: drains[name].wake(), limits)
        server = uvicorn.Server(config(receiver, limits, host=listen.host, port=listen.port))
        renewals = Renewer(chosen=chosen, root=spool.root, sources=sources, told=told.subscribed)
        with worker.working(list(drains.values())), renewals.going_on():
            say(f"receiving on http://{listen.host}:{listen.port} for {', '.join(drains)}")
            with suppress(KeyboardInterrupt):
                signal.signal(signal.SIGTERM, _interrupt)
                server.run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """uvicorn raises the signal that stopped it once more: what is under way is to be finished."""
    raise KeyboardInterrupt


def open_spool(chosen: Settings, lake: Lake) -> Spool:
    """The spool of the settings; nothing is made yet."""
    listen = chosen.webhooks
    beside = chosen.integrity.folder.expanduser() / "spool"
    root = listen.spool or (lake.local / "spool" if lake.local else beside)
    return Spool(
        root.absolute(),
        limit=listen.spool_megabytes * 2**20,
        spare=listen.spare_megabytes * 2**20,
    )


def _endpoints(
    sources: Sequence[Source], listen: WebhookSettings, say: Callable[[str], None]
) -> list[Endpoint]:
    """What can be pushed to. Raises ConfigurationError."""
    pushing = [(source, source.integration.push) for source in sources]
    open_ones = [source.name for source, push in pushing if push and not _secret(source)]
    if open_ones and not is_loopback(listen.host):
        raise ConfigurationError(
            f"webhooks.host is {listen.host}, but {', '.join(open_ones)} would take pushes without "
            "a secret: set webhook_secret (`openssl rand -hex 32`), or name the integrations to "
            "receive for, or listen on 127.0.0.1"
        )
    for name in open_ones:
        say(f"{name}: has no webhook_secret, so nothing is received for it")
    doors = [
        Endpoint(source=source, push=push, secret=_secret(source))
        for source, push in pushing
        if push and _secret(source)
    ]
    if not doors:
        raise ConfigurationError(
            "no integration has a webhook_secret: set one for each that is to be pushed to, "
            'such as { env = "OKTA_WEBHOOK_SECRET" }'
        )
    return doors


def _secret(source: Source) -> str:
    given = source.settings.webhook_secret
    return given.get_secret_value() if given else ""
