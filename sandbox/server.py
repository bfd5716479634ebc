"""All simulated services on one port, with a ledger of served records and fault injection.

Each service is mounted at /<kind>. /_sandbox/ is for tests: the ledger lists the records that a
complete reader must have, and faults make a vendor misbehave.
"""

from __future__ import annotations

import email.utils
import hashlib
import importlib
import pkgutil
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import Message, Receive, Scope, Send

from sandbox import browser_guard, pushes, replay
from sandbox import services as simulated
from sandbox.answer_key import Answers, answers
from sandbox.company import Company
from sandbox.control import known, read
from sandbox.faults import Asked, Fault, Mishap, Trouble, troubled
from sandbox.generation import Span, generated
from sandbox.pushes import Attempt, Courier, Subscription
from sandbox.service import (
    Clock,
    Log,
    Service,
    Site,
    Stream,
    Webhook,
    at,
    decoded,
    identity,
    moment,
    webhook_secret,
)

_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of the simulation, and its listening address."""

    host: str = "127.0.0.1"
    port: int = 8700
    seed: int = 1
    days: int = 90
    """Days of history before `anchor`."""
    per_day: float = 400
    """Records per day of a stream whose share is 1, such as Okta's system log."""
    rate: float = 0.5
    """New records per second after `anchor`, over all streams."""
    anchor: datetime | None = None
    """The time at which history ends and new records begin; default: the start of the server."""
    until: datetime | None = None
    """No records are generated for minutes that start at or after this time."""
    events: Path | None = None
    """A folder of recorded vendor records to serve instead of generated ones; see `replay`."""
    limits: bool = False
    """Whether the vendors' rate limits apply."""
    mishaps: Sequence[Mishap] = ()
    """Mishaps of pushes, active from the start."""
    pace: float = 1.0
    """Multiplies the vendors' pauses before they retry a push."""
    allowed_hosts: Sequence[str] = ()
    """Host names that requests may address, in addition to `host` and those of loopback."""
    incidents: bool = False
    """Whether the company has incidents with an answer key; see `incidents`."""
    push_to: str | None = None
    """A receiver's URL: webhooks that only a vendor's console registers push to its /<kind>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record that has become visible."""

    id: str
    time: str
    arrival: str
    sha256: str
    """Of the exact bytes."""


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def services() -> dict[str, Service]:
    """Return all simulated services by kind."""
    modules = (
        importlib.import_module(f"{simulated.__name__}.{found.name}")
        for found in pkgutil.iter_modules(simulated.__path__)
    )
    found = [module.SERVICE for module in modules if hasattr(module, "SERVICE")]
    return {service.kind: service for service in found}


def settings(base_url: str) -> dict[str, dict[str, Any]]:
    """Return the [integrations] table of a configuration that reads the sandbox at `base_url`."""
    found = {}
    for kind, service in services().items():
        found[kind] = service.settings(f"{base_url}/{kind}")
        if service.pushes or service.console:
            found[kind]["webhook_secret"] = webhook_secret(kind)
    return found


def mishaps(lost: float, twice: float, late: float, seed: int) -> list[Mishap]:
    """Return the same mishaps for every kind; an empty list if all fractions are 0."""
    if not lost + twice + late:
        return []
    return [
        Mishap(kind=kind, lost=lost, twice=twice, late=late, seconds=10.0, seed=seed)
        for kind in services()
    ]


class Sandbox:
    """All services with their logs and injected faults; `app` serves them."""

    def __init__(self, options: Options, clock: Clock = _now) -> None:
        self._clock = clock
        options = replace(options, anchor=options.anchor or clock())
        self._options = options
        self._hosts = frozenset({options.host, *options.allowed_hosts})
        self._logs = _logs(options, clock)
        self._troubles: dict[str, Trouble] = {}
        self._sites: dict[str, Site] = {}
        self._webhooks: dict[str, dict[str, Subscription]] = {kind: {} for kind in services()}
        self.courier = Courier(clock=clock, pace=options.pace)
        self.mishap(options.mishaps)
        mounts = [self._mount(service, options) for service in services().values()]
        if options.push_to:
            self._push_to(options.push_to)
        self._app = Starlette(routes=[Mount("/_sandbox", routes=self._control()), *mounts])

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application; its Date header follows the sandbox's clock."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = email.utils.format_datetime(self._clock(), usegmt=True)
                message["headers"] = [*message["headers"], (b"date", date.encode())]
            await send(message)

        # `send` is a method of uvicorn's request cycle, which holds the transport that faults drop.
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if fault := browser_guard.fault(Headers(scope=scope), self._hosts):
            await PlainTextResponse(f"refused: {fault}\n", 403)(scope, receive, dated)
        else:
            await self._app({**scope, "transport": transport}, receive, dated)

    def log(self, kind: str, stream: str) -> Log:
        """Return a stream's log. Raises KeyError."""
        return self._logs[kind, stream]

    def ledger(self, kind: str, stream: str) -> list[Entry]:
        """Return every record visible so far, in order of arrival. Raises KeyError."""
        identify = _stream(kind, stream).identify
        return [
            Entry(
                id=identity(identify, record.raw),
                time=moment(record.time).isoformat(),
                arrival=moment(record.arrival).isoformat(),
                sha256=hashlib.sha256(record.raw).hexdigest(),
            )
            for record in self.log(kind, stream).visible()
        ]

    def incidents(self) -> list[Answers]:
        """Return the answer keys of the incidents, oldest first; empty if there are none."""
        options = self._options
        if not options.incidents or options.events is not None:
            return []
        return answers(_spans(options, options.anchor or self._clock()), options.seed)

    def append(self, kind: str, stream: str, records: Iterable[bytes], time: str = "") -> int:
        """Add records that arrive now; return how many. Event time: `time`, their own, or now."""
        log, pick = self.log(kind, stream), at(_stream(kind, stream).time)
        arriving = list(records)
        with self.courier.held():
            for raw in arriving:
                log.append(raw, replay.time_of(time or pick(decoded(raw))))
        return len(arriving)

    def order(self, faults: Iterable[Fault]) -> None:
        """Replace the faults of all services."""
        ordered = list(faults)
        for kind, trouble in self._troubles.items():
            trouble.order([fault for fault in ordered if fault.kind == kind])

    def mishap(self, mishaps: Iterable[Mishap]) -> None:
        """Replace the mishaps of all services."""
        self.courier.mishaps = {mishap.kind: mishap for mishap in mishaps}

    def attempts(self, kind: str) -> list[Attempt]:
        """Return the push attempts with their outcomes, oldest first."""
        return self.courier.attempts(kind)

    def register(self, kind: str, webhook: Webhook) -> str:
        """Register a webhook as in a console, and return its id. Raises KeyError, ValueError."""
        console, hooks = services()[kind].console, self._webhooks[kind]
        if console is None:
            raise ValueError(f"{kind} has no console webhooks here: use its API, if it has one")
        if len(hooks) >= console.webhooks:
            raise ValueError(f"{kind} allows {console.webhooks} webhooks: delete one first")
        pushes.check(webhook.address)
        id_ = secrets.token_hex(8)
        hooks[id_] = console.subscription(self._sites[kind], webhook)
        self.courier.subscribe(hooks[id_])
        return id_

    def unregister(self, kind: str, id_: str) -> None:
        """Remove a console webhook. Raises KeyError."""
        self.courier.unsubscribe(self._webhooks[kind].pop(id_))

    def _push_to(self, address: str) -> None:
        for kind, service in services().items():
            if service.console:
                headers = {"Authorization": f"Bearer {webhook_secret(kind)}"}
                self.register(kind, Webhook(address=f"{address}/{kind}", headers=headers))

    def close(self) -> None:
        """Stop pushing."""
        self.courier.close()

    def requests(self, kind: str) -> tuple[int, list[Asked]]:
        """Return a service's number of requests, and the latest ones. Raises KeyError."""
        trouble = self._troubles[kind]
        return trouble.requests, list(trouble.asked)

    def _mount(self, service: Service, options: Options) -> Mount:
        site = Site(
            logs={stream.name: self.log(service.kind, stream.name) for stream in service.streams},
            clock=self._clock,
            limits=options.limits,
            courier=self.courier,
            streams={stream.name: stream for stream in service.streams},
        )
        self._sites[service.kind] = site
        self._troubles[service.kind] = trouble = Trouble(
            refuse=lambda status, wait: service.refusal(status, self._clock(), wait),
            expire=site.tokens.expire,
            clock=self._clock,
        )
        return Mount(f"/{service.kind}", app=troubled(Router(service.routes(site)), trouble))

    def _control(self) -> list[Route]:
        return [
            Route("/ledger/{kind}/{stream}", self._get_ledger),
            Route("/records/{kind}/{stream}", self._post_records, methods=["POST"]),
            Route("/incidents", self._get_incidents),
            Route("/faults", self._post_faults, methods=["POST"]),
            Route("/faults", self._delete_faults, methods=["DELETE"]),
            Route("/requests/{kind}", self._get_requests),
            Route("/mishaps", self._post_mishaps, methods=["POST"]),
            Route("/mishaps", self._delete_mishaps, methods=["DELETE"]),
            Route("/pushes/{kind}", self._get_pushes),
            Route("/webhooks/{kind}", self._post_webhook, methods=["POST"]),
            Route("/webhooks/{kind}/{id}", self._delete_webhook, methods=["DELETE"]),
        ]

    def _get_ledger(self, request: Request) -> Response:
        with known(request):
            lines = [_encode(entry) for entry in self.ledger(**request.path_params)]
        return Response(b"".join(line + b"\n" for line in lines), media_type="application/x-ndjson")

    def _get_incidents(self, _request: Request) -> Response:
        return Response(_encode(self.incidents()), media_type="application/json")

    async def _post_records(self, request: Request) -> Response:
        lines = [line for line in (await request.body()).split(b"\n") if line.strip()]
        time = request.query_params.get("time", "")
        with known(request):
            count = await run_in_threadpool(
                self.append, records=lines, time=time, **request.path_params
            )
        return JSONResponse({"appended": count}, status_code=201)

    async def _post_faults(self, request: Request) -> Response:
        faults = await read(request, list[Fault])
        self._check_kinds(faults)
        self.order(faults)
        return Response(status_code=204)

    async def _post_mishaps(self, request: Request) -> Response:
        mishaps = await read(request, list[Mishap])
        self._check_kinds(mishaps)
        self.mishap(mishaps)
        return Response(status_code=204)

    def _delete_mishaps(self, _request: Request) -> Response:
        self.mishap([])
        return Response(status_code=204)

    def _get_pushes(self, request: Request) -> Response:
        lines = [_encode(attempt) for attempt in self.attempts(request.path_params["kind"])]
        return Response(b"".join(line + b"\n" for line in lines), media_type="application/x-ndjson")

    async def _post_webhook(self, request: Request) -> Response:
        webhook = await read(request, Webhook)
        with known(request):
            try:
                id_ = self.register(request.path_params["kind"], webhook)
            except ValueError as error:
                raise HTTPException(400, str(error)) from None
        return JSONResponse({"id": id_}, status_code=201)

    def _delete_webhook(self, request: Request) -> Response:
        with known(request):
            self.unregister(request.path_params["kind"], request.path_params["id"])
        return Response(status_code=204)

    def _check_kinds(self, ordered: Iterable[Fault | Mishap]) -> None:
        for each in ordered:
            if each.kind not in self._troubles:
                raise HTTPException(
                    400, f"unknown kind {each.kind!r}: use one of {', '.join(self._troubles)}"
                )

    def _delete_faults(self, _request: Request) -> Response:
        self.order([])
        return Response(status_code=204)

    def _get_requests(self, request: Request) -> Response:
        with known(request):
            count, asked = self.requests(**request.path_params)
        body = _encode({"count": count, "requests": asked})
        return Response(body, media_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A sandbox that is being served, and its URL."""

    base_url: str
    sandbox: Sandbox

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the [integrations] table of a configuration that reads it."""
        return settings(self.base_url)


def serve(options: Options) -> None:
    """Serve until interrupted."""
    with closing(Sandbox(options)) as sandbox, suppress(KeyboardInterrupt):
        uvicorn.Server(_config(sandbox, options)).run()


@contextmanager
def running(options: Options | None = None, clock: Clock = _now) -> Iterator[Running]:
    """Serve from a background thread, on a free port of the loopback interface."""
    options = options or Options()
    sandbox = Sandbox(options, clock)
    server = uvicorn.Server(_config(sandbox, options))
    # asyncio sets TCP_NODELAY only if the protocol is explicit; Nagle's algorithm costs 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            host, port = listening.getsockname()
            yield Running(base_url=f"http://{host}:{port}", sandbox=sandbox)
        finally:
            sandbox.close()
            server.should_exit = True
            thread.join()


def _config(sandbox: Sandbox, options: Options) -> uvicorn.Config:
    return uvicorn.Config(
        sandbox.app,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        date_header=False,  # Sandbox.app sets it from its own clock
        server_header=False,
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        http="h11",
        loop="asyncio",
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )


def _logs(options: Options, clock: Clock) -> dict[tuple[str, str], Log]:
    anchor, company = options.anchor or clock(), Company(options.seed)
    logs = {}
    for kind, stream, span in _spans(options, anchor):
        if options.events is not None:
            chunks = replay.recorded(services()[kind], stream, options.events, anchor)
        else:
            chunks = generated(stream, f"{kind}/{stream.name}", company, span)
        logs[kind, stream.name] = Log(chunks, clock)
    return logs


def _spans(options: Options, anchor: datetime) -> Iterator[tuple[str, Stream, Span]]:
    """Yield kind, stream and span of every stream."""
    streams = [(kind, each) for kind, service in services().items() for each in service.streams]
    shares = sum(stream.share for _, stream in streams)
    for kind, stream in streams:
        span = Span(
            anchor=anchor,
            days=options.days,
            per_day=options.per_day * stream.share,
            per_second=options.rate * stream.share / shares,
            until=options.until,
            incidents=options.incidents,
        )
        yield kind, stream, span


def _stream(kind: str, name: str) -> Stream:
    return {stream.name: stream for stream in services()[kind].streams}[name]
