"""Google's push channels, simulated: activities.watch, the sync message, channels.stop.

https://developers.google.com/workspace/admin/reports/v1/guides/push
A channel lives six hours at most and cannot be renewed, only followed by another. Every message is
numbered, in order but not without gaps; an activity is a message, named after its first event.
"""

from __future__ import annotations

import email.utils
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import pushes
from sandbox.pushes import Delivery, NotHere, Patience, Subscription
from sandbox.service import Follower, Keep, Record, Site, decoded, micros, moment

Admit = Callable[[Request, datetime], Response | None]
"""A refusal of whoever may not ask."""
Choose = Callable[[Request], Keep | None]
"""Whose and which activities a request asks for."""
Refuse = Callable[[int, str, str], Response]
"""(status, reason, message) -> how Google words it."""

LONGEST = timedelta(hours=6)
_PATIENCE = Patience(
    pauses=(1.0, 2.0, 4.0, 8.0, 16.0),
    taken=lambda status: status in (102, 200, 201, 202, 204),
    again=lambda status: status in (None, 500, 502, 503, 504),
)
_AGENT = "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"


class _Asked(msgspec.Struct, frozen=True):
    """What a client says of a channel."""

    id: str
    type: str
    address: str
    token: str | None = None
    payload: bool = True
    expiration: str | int | None = None
    params: dict[str, str] = {}


class _Stop(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    resource_id: str


@dataclass(slots=True, kw_only=True)
class _Channel:
    asked: _Asked
    expires: datetime
    resource_id: str
    resource_uri: str
    application: str
    follower: Follower
    keep: Keep | None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1, 3))
    subscription: Subscription | None = None

    def headers(self, state: str) -> dict[str, str]:
        headers = {
            "X-Goog-Channel-ID": self.asked.id,
            "X-Goog-Channel-Expiration": email.utils.format_datetime(self.expires, usegmt=True),
            "X-Goog-Resource-ID": self.resource_id,
            "X-Goog-Resource-URI": self.resource_uri,
            "X-Goog-Resource-State": state,
            "X-Goog-Message-Number": str(next(self.numbers)),
            "User-Agent": _AGENT,
        }
        token = self.asked.token
        return headers | {"X-Goog-Channel-Token": token} if token else headers


@dataclass(slots=True, kw_only=True)
class _Channels:
    site: Site
    open: dict[str, _Channel] = field(default_factory=dict)

    def close(self, channel: _Channel) -> None:
        if self.open.pop(channel.asked.id, None) and channel.subscription:
            self.site.courier.unsubscribe(channel.subscription)


def routes(site: Site, admit: Admit, choose: Choose, refuse: Refuse) -> Sequence[BaseRoute]:
    channels = _Channels(site=site)

    async def watch(request: Request) -> Response:
        return await answer(request, _watch)

    async def stop(request: Request) -> Response:
        return await answer(request, _stop)

    async def answer(request: Request, act: Callable[..., Response]) -> Response:
        if refused := admit(request, site.clock()):
            return refused
        body = await request.body()
        try:
            return await run_in_threadpool(act, channels, request, body, choose)
        except (ValueError, msgspec.DecodeError) as error:
            return refuse(400, "invalidParameter", str(error))
        except KeyError as error:
            return refuse(404, "notFound", f"Channel not found: {error}")

    listed = "/admin/reports/v1/activity/users/{user}/applications/{application}"
    return [
        Route(f"{listed}/watch", watch, methods=["POST"]),
        Route("/admin/reports_v1/channels/stop", stop, methods=["POST"]),
    ]


def _watch(channels: _Channels, request: Request, body: bytes, choose: Choose) -> Response:
    """The sync message is sent before the answer. Raises ValueError."""
    asked, now = msgspec.json.decode(body, type=_Asked), channels.site.clock()
    _check(channels, asked, request)
    channel = _Channel(
        asked=asked,
        expires=_expiration(asked, now),
        resource_id=uuid.uuid5(uuid.NAMESPACE_URL, request.url.path).hex[:24],
        resource_uri=f"{str(request.url.replace(query='')).removesuffix('/watch')}?alt=json",
        application=request.path_params["application"],
        follower=channels.site.follower(request.path_params["application"]),
        keep=choose(request),
    )
    channels.open[asked.id] = channel
    subscription = Subscription(
        kind="google_workspace",
        fresh=lambda: _news(channels, channel),
        patience=_PATIENCE,
    )
    channel.subscription = subscription
    sync = Delivery(
        kind="google_workspace",
        what="sync",
        url=asked.address,
        headers=channel.headers("sync"),
    )
    channels.site.courier.send(sync, _PATIENCE.timeout)
    channels.site.courier.subscribe(subscription)
    return JSONResponse(_shown(channel))


def _check(channels: _Channels, asked: _Asked, request: Request) -> None:
    """Raises ValueError."""
    if asked.type != "web_hook":
        raise ValueError(f"Unknown channel type: {asked.type}")
    if not 1 <= len(asked.id) <= 64 or len(asked.token or "") > 256:
        raise ValueError("Channel id is limited to 64 characters, its token to 256")
    if asked.id in channels.open:
        raise ValueError(f"Channel id {asked.id} not unique")
    if request.path_params["application"] not in channels.site.logs:
        raise ValueError("Invalid value for applicationName")
    try:
        pushes.check(asked.address)
    except NotHere as error:
        raise ValueError(f"WebHook callback must be HTTPS: {asked.address}: {error}") from None


def _expiration(asked: _Asked, now: datetime) -> datetime:
    """Milliseconds since 1970, or seconds to live; six hours at most, and by default."""
    if asked.expiration is not None:
        wanted = moment(int(asked.expiration) * 1000)
    elif "ttl" in asked.params:
        wanted = now + timedelta(seconds=int(asked.params["ttl"]))
    else:
        wanted = now + LONGEST
    if wanted <= now:
        raise ValueError("Channel expiration is in the past")
    return min(wanted, now + LONGEST)


def _stop(channels: _Channels, _request: Request, body: bytes, _choose: Choose) -> Response:
    """Raises KeyError."""
    asked = msgspec.json.decode(body, type=_Stop)
    channel = channels.open[asked.id]
    if channel.resource_id != asked.resource_id:
        raise KeyError(asked.id)
    channels.close(channel)
    return Response(status_code=204)


def _news(channels: _Channels, channel: _Channel) -> Iterator[Delivery]:
    if channel.expires <= channels.site.clock():
        channels.close(channel)
        return
    for record in channel.follower.news():
        if channel.keep is None or channel.keep(record.raw):
            yield _message(channels.site, channel, record)


def _message(site: Site, channel: _Channel, record: Record) -> Delivery:
    headers = channel.headers(_first_event(record))
    return Delivery(
        kind="google_workspace",
        what="activity",
        url=channel.asked.address,
        headers={"Content-Type": "application/json; utf-8", **headers},
        body=record.raw if channel.asked.payload else b"",
        carries=site.carried(channel.application, [record]),
    )


def _first_event(record: Record) -> str:
    match decoded(record.raw):
        case {"events": [{"name": str(name)}, *_]}:
            return name
    return "unknown"


def _shown(channel: _Channel) -> dict[str, Any]:
    shown = {
        "kind": "api#channel",
        "id": channel.asked.id,
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "expiration": str(micros(channel.expires) // 1000),
    }
    return shown | {"token": channel.asked.token} if channel.asked.token else shown
