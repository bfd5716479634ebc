"""The receiver's server: HTTP with deadlines, one endpoint per integration, and the workers."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.clock import utc_now
from pipelines.detections.alerts import passes
from pipelines.detections.detector import Detector
from pipelines.errors import ConfigurationError
from pipelines.extraction.report import Report
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import Settings, WebhookSettings, is_loopback
from pipelines.webhooks import dagster_reports, worker
from pipelines.webhooks.alerting import Alerting
from pipelines.webhooks.detecting import Detecting
from pipelines.webhooks.receiver import Endpoint, Limits, Receiver, neighbourhood, of_proxy
from pipelines.webhooks.spool import configured_spool
from pipelines.webhooks.subscriptions import Renewer
from pipelines.webhooks.worker import Worker


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 with a deadline for the head of a request and limits on connections.

    uvicorn has no timeout for a head that arrives slowly or never (slowloris). Where connections
    are used up, those that have sent no head yet give way to new ones, since vendors send theirs
    at once; a connection that stays open after a head has presented the secret.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._head_seen = False
        host = self.client[0] if self.client else ""
        self._sender = "" if of_proxy(host, self.limits) else neighbourhood(host)
        if surplus := self._surplus():
            surplus.transport.abort()
        if surplus is not self:
            self._check_deadline()

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()
            self._head_seen = True

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request, and close the connection even if it cannot be answered."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            # A HEAD request, whose answer has no body, or one that has been answered already.
            self.transport.close()
        if self.cycle and not self.cycle.response_complete:
            # Its head was well-formed, so the application is about to answer it, too.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _surplus(self) -> DeadlineProtocol | None:
        """Return the connection to close because of this one; None while there is room."""
        every = [one for one in self._others() if not one.transport.is_closing()]
        waiting = [one for one in every if not one._head_seen]
        ours = [one for one in waiting if one._sender == self._sender]
        if self._sender and len(ours) >= self.limits.heads_per_address:
            waiting = ours
        elif len(every) < self.limits.connections:
            return None
        crowd = Counter(one._sender for one in waiting)
        # The longest wait of the sender with the most waiting connections.
        return max(waiting, key=lambda one: (crowd[one._sender], -one._waiting_since), default=self)

    def _others(self) -> Iterator[DeadlineProtocol]:
        for one in self.connections:
            if isinstance(one, DeadlineProtocol) and one is not self:
                yield one

    def _check_deadline(self) -> None:
        """Close the connection if the head is overdue; otherwise check again later."""
        if self.transport.is_closing():
            return
        # h11 leaves IDLE once a head is complete; the deadline counts from the last such moment.
        if self.conn.their_state is not h11.IDLE:
            self._waiting_since = self.loop.time()
        left = self._waiting_since + self.limits.head_seconds - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self.loop.call_later(min(left, 1.0) + 0.01, self._check_deadline)


def config(receiver: Receiver, limits: Limits, *, host: str, port: int) -> uvicorn.Config:
    return limited(receiver.app, limits, host=host, port=port, interface="asgi3", backlog=512)


def limited(app: Any, limits: Limits, *, host: str, port: int, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server for any caller, with deadlines and limits."""
    # uvicorn instantiates the protocol itself, so the limits have to be on the class.
    protocol = type("Protocol", (DeadlineProtocol,), {"limits": limits})
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="error",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        # X-Forwarded-For could be forged to evade the limit of wrong secrets per address.
        proxy_headers=False,
        http=protocol,
        loop="asyncio",
        ws="none",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=limits.head,
        **options,
    )


def serve(
    chosen: Settings, lake: Lake, sources: Sequence[Source], echo: Callable[[str], None]
) -> None:
    """Receive deliveries and store them until interrupted. Raises ConfigurationError."""
    listen = chosen.webhooks
    limits = Limits(per_second=listen.per_second, proxies=listen.trusted_proxies)
    endpoints = _endpoints(sources, listen, echo)
    spool = configured_spool(chosen, lake)
    with (
        spool.open(),
        dagster_reports.reporter(chosen.dagster, chosen.network.ca_bundle) as reporter,
    ):
        alerting = Alerting(send=lambda: passes.pass_once(chosen, lake, utc_now()))
        detector = Detector(lake=lake, settings=chosen.detections)
        detecting = Detecting(detector=detector, on_findings=alerting.wake)

        def on_report(report: Report) -> None:
            reporter.report(report)
            detecting.landed(report)

        workers = {
            each.source.name: Worker(
                lake=lake,
                source=each.source,
                push=each.push,
                spool=spool,
                on_report=on_report,
            )
            for each in endpoints
        }
        receiver = Receiver(endpoints, spool, lambda name: workers[name].wake(), limits)
        server = uvicorn.Server(config(receiver, limits, host=listen.host, port=listen.port))
        renewer = Renewer(
            chosen=chosen,
            root=spool.root,
            sources=sources,
            on_change=reporter.report_subscriptions,
        )
        # What a kill has left.
        detecting.add(
            [StreamKey(e.source.name, s.name) for e in endpoints for s in e.source.streams()]
        )
        with (
            alerting.running(),
            detecting.running(),
            worker.running(list(workers.values())),
            renewer.running(),
        ):
            echo(f"receiving on {listen.address} for {', '.join(workers)}")
            with suppress(KeyboardInterrupt):
                signal.signal(signal.SIGTERM, _interrupt)
                server.run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # uvicorn raises the signal that stopped it again; the default action would skip the cleanup.
    raise KeyboardInterrupt


def _endpoints(
    sources: Sequence[Source], listen: WebhookSettings, echo: Callable[[str], None]
) -> list[Endpoint]:
    """Return an endpoint per integration that has a secret. Raises ConfigurationError."""
    pushing = [(source, source.integration.push) for source in sources]
    lacking = [source.name for source, push in pushing if push and not _secret(source)]
    # On a public address a forgotten secret would go unnoticed; on loopback a line is enough.
    if lacking and not is_loopback(listen.host):
        raise ConfigurationError(
            f"webhooks.host is {listen.host}, but {', '.join(lacking)} has no webhook_secret: "
            "set it (`openssl rand -hex 32`), name the integrations to receive for, or listen on "
            "127.0.0.1"
        )
    for name in lacking:
        echo(f"{name}: no webhook_secret is set, so its webhooks are not accepted")
    endpoints = [
        Endpoint(source=source, push=push, secret=_secret(source))
        for source, push in pushing
        if push and _secret(source)
    ]
    if not endpoints:
        raise ConfigurationError(
            "no integration has a webhook_secret: set one for each that receives webhooks, "
            'such as { env = "OKTA_WEBHOOK_SECRET" }'
        )
    return endpoints


def _secret(source: Source) -> str:
    secret = source.settings.webhook_secret
    return secret.get_secret_value() if secret else ""
