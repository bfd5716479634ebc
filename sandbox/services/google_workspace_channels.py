"""Google's push channels, simulated: activities.watch, the sync message, channels.stop.

https://developers.google.com/workspace/admin/reports/v1/guides/push
A channel lives six hours at most and cannot be renewed, only replaced. Message numbers increase,
with gaps; each activity is one message, named after its first event.
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
"""(request, now) -> an error response if the request is not authorised."""
Choose = Callable[[Request], Keep | None]
"""A request -> a filter for the activities it selects, or None for all."""
Refuse = Callable[[int, str, str], Response]
"""(status, reason, message) -> Google's error response."""

LONGEST = timedelta(hours=6)
_PATIENCE = Patience(
    pauses=(1.0, 2.0, 4.0, 8.0, 16.0),
    taken=lambda status: status in (102, 200, 201, 202, 204),
    again=lambda status: status in (None, 500, 502, 503, 504),
)
_AGENT = "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"


class _ChannelSpec(msgspec.Struct, frozen=True):
    """A channel as the client requests it."""

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
    spec: _ChannelSpec
    expires: datetime
    resource_id: str
    resource_uri: str
    application: str
    follower: Follower
    keep: Keep | None
    # Steps of 3: clients must not expect consecutive message numbers.
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1, 3))
    subscription: Subscription | None = None

    def headers(self, state: str) -> dict[str, str]:
        headers = {
            "X-Goog-Channel-ID": self.spec.id,
            "X-Goog-Channel-Expiration": email.utils.format_datetime(self.expires, usegmt=True),
            "X-Goog-Resource-ID": self.resource_id,
            "X-Goog-Resource-URI": self.resource_uri,
            "X-Goog-Resource-State": state,
            "X-Goog-Message-Number": str(next(self.numbers)),
            "User-Agent": _AGENT,
        }
        token = self.spec.token
        return headers | {"X-Goog-Channel-Token": token} if token else headers


@dataclass(slots=True, kw_only=True)
class _Channels:
    site: Site
    open: dict[str, _Channel] = field(default_factory=dict)

    def close(self, channel: _Channel) -> None:
        if self.open.pop(channel.spec.id, None) and channel.subscription:
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
    """Open a channel, and send its sync message before responding. Raises ValueError."""
    spec, now = msgspec.json.decode(body, type=_ChannelSpec), channels.site.clock()
    _check(channels, spec, request)
    channel = _Channel(
        spec=spec,
        expires=_expiration(spec, now),
        resource_id=uuid.uuid5(uuid.NAMESPACE_URL, request.url.path).hex[:24],
        resource_uri=f"{str(request.url.replace(query='')).removesuffix('/watch')}?alt=json",
        application=request.path_params["application"],
        follower=channels.site.follower(request.path_params["application"]),
        keep=choose(request),
    )
    channels.open[spec.id] = channel
    subscription = Subscription(
        kind="google_workspace",
        fresh=lambda: _deliveries(channels, channel),
        patience=_PATIENCE,
    )
    channel.subscription = subscription
    sync = Delivery(
        kind="google_workspace",
        what="sync",
        url=spec.address,
        headers=channel.headers("sync"),
    )
    channels.site.courier.send(sync, _PATIENCE.timeout)
    channels.site.courier.subscribe(subscription)
    return JSONResponse(_as_json(channel))


def _check(channels: _Channels, spec: _ChannelSpec, request: Request) -> None:
    """Check the request for a channel. Raises ValueError."""
    if spec.type != "web_hook":
        raise ValueError(f"Unknown channel type: {spec.type}")
    if not 1 <= len(spec.id) <= 64 or len(spec.token or "") > 256:
        raise ValueError("Channel id is limited to 64 characters, its token to 256")
    if spec.id in channels.open:
        raise ValueError(f"Channel id {spec.id} not unique")
    if request.path_params["application"] not in channels.site.logs:
        raise ValueError("Invalid value for applicationName")
    try:
        pushes.check(spec.address)
    except NotHere as error:
        raise ValueError(f"WebHook callback must be HTTPS: {spec.address}: {error}") from None


def _expiration(spec: _ChannelSpec, now: datetime) -> datetime:
    """Return the expiry, at most 6 hours away, from epoch milliseconds or a ttl in seconds."""
    if spec.expiration is not None:
        wanted = moment(int(spec.expiration) * 1000)
    elif "ttl" in spec.params:
        wanted = now + timedelta(seconds=int(spec.params["ttl"]))
    else:
        wanted = now + LONGEST
    if wanted <= now:
        raise ValueError("Channel expiration is in the past")
    return min(wanted, now + LONGEST)


def _stop(channels: _Channels, _request: Request, body: bytes, _choose: Choose) -> Response:
    """Close a channel. Raises KeyError if both ids do not match an open one."""
    spec = msgspec.json.decode(body, type=_Stop)
    channel = channels.open[spec.id]
    if channel.resource_id != spec.resource_id:
        raise KeyError(spec.id)
    channels.close(channel)
    return Response(status_code=204)


def _deliveries(channels: _Channels, channel: _Channel) -> Iterator[Delivery]:
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
        url=channel.spec.address,
        headers={"Content-Type": "application/json; utf-8", **headers},
        body=record.raw if channel.spec.payload else b"",
        carries=site.carried(channel.application, [record]),
    )


def _first_event(record: Record) -> str:
    match decoded(record.raw):
        case {"events": [{"name": str(name)}, *_]}:
            return name
    return "unknown"


def _as_json(channel: _Channel) -> dict[str, Any]:
    shown = {
        "kind": "api#channel",
        "id": channel.spec.id,
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "expiration": str(micros(channel.expires) // 1000),
    }
    return shown | {"token": channel.spec.token} if channel.spec.token else shown
