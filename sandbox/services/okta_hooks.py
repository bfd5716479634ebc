"""Okta's event hooks, simulated: registration, verification, and deliveries with one retry.

https://developer.okta.com/docs/concepts/event-hooks/
Only active and verified hooks receive events. The verification request does not carry the secret,
and a pushed event differs from the polled one: its `ipChain` is under `client`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sandbox import pushes
from sandbox.pushes import Delivery, NotHere, Patience, Subscription
from sandbox.service import Follower, Record, Site, batches, decoded, iso
from sandbox.services import okta_events
from sandbox.services.okta_refusals import Refusal

Admit = Callable[[Request, str], dict[str, str]]
"""(request, scope) -> the headers of the response. Raises Refusal."""

_SECONDS = 3.0
_MOST_HOOKS, _MOST_TYPES, _MOST_EVENTS = 25, 300, 10
_PATIENCE = Patience(timeout=_SECONDS, pauses=(1.0,))
_READ, _MANAGE = "okta.eventHooks.read", "okta.eventHooks.manage"
SCOPES = frozenset({_READ, _MANAGE})
_ADMIN = "00usandboxadmin000001d7"


class _Pair(msgspec.Struct, frozen=True):
    key: str
    value: str | None = None


class _Scheme(msgspec.Struct, frozen=True):
    type: Literal["HEADER"]
    key: str
    value: str | None = None


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    uri: str
    headers: list[_Pair] | None = None
    auth_scheme: _Scheme | None = None
    method: str = "POST"


class _Channel(msgspec.Struct, frozen=True):
    type: Literal["HTTP"]
    version: str
    config: _Config


class _Events(msgspec.Struct, frozen=True):
    type: Literal["EVENT_TYPE"]
    items: list[str]


class _HookSpec(msgspec.Struct, frozen=True):
    """A hook as the client defines it."""

    name: str
    events: _Events
    channel: _Channel
    description: str | None = None


@dataclass(slots=True, kw_only=True)
class _Hook:
    id: str
    spec: _HookSpec
    created: datetime
    updated: datetime
    address: str
    """The hook's own URL in Okta's API."""
    active: bool = True
    verified: bool = False

    @property
    def config(self) -> _Config:
        return self.spec.channel.config

    def headers(self) -> dict[str, str]:
        pairs = [*(self.config.headers or ()), *filter(None, [self.config.auth_scheme])]
        return {pair.key: pair.value or "" for pair in pairs}


@dataclass(slots=True, kw_only=True)
class _Hooks:
    """All hooks of an organisation, which share one follower of the log."""

    site: Site
    found: dict[str, _Hook] = field(default_factory=dict)
    follower: Follower | None = None

    def news(self) -> Iterator[Delivery]:
        """Yield the deliveries of every hook for the new records."""
        assert self.follower  # noqa: S101 set with the first hook
        records = self.follower.news()
        for hook in list(self.found.values()):
            if hook.active and hook.verified:
                wanted = [each for each in records if _type(each) in hook.spec.events.items]
                for some in batches(wanted, _MOST_EVENTS):
                    yield _delivery(self.site, hook, some)


def routes(site: Site, admit: Admit) -> Sequence[BaseRoute]:
    hooks = _Hooks(site=site)
    steps = {"verify": _verify, "activate": _activate, "deactivate": _deactivate}

    async def answer(request: Request) -> Response:
        try:
            scope = _READ if request.method == "GET" else _MANAGE
            headers = admit(request, scope)
            body = await request.body()
        except Refusal as refusal:
            return refusal.response({})
        return await run_in_threadpool(act, request, body, headers)

    def act(request: Request, body: bytes, headers: dict[str, str]) -> Response:
        try:
            match request.method, request.path_params.get("step"):
                case "GET", None if "id" not in request.path_params:
                    found: Any = [_as_json(hook) for hook in hooks.found.values()]
                case "POST", None:
                    found = _as_json(_created(hooks, request, _read(body)))
                case "GET", None:
                    found = _as_json(_hook(hooks, request))
                case "PUT", None:
                    found = _as_json(_replaced(hooks, _hook(hooks, request), _read(body)))
                case "DELETE", None:
                    _delete(hooks, _hook(hooks, request))
                    return Response(status_code=204, headers=headers)
                case _, step if step in steps:
                    hook = _hook(hooks, request)
                    steps[step](site, hook)
                    found = _as_json(hook)
                case _:
                    raise _not_found(request.url.path)
            return JSONResponse(found, headers=headers)
        except Refusal as refusal:
            return refusal.response(headers)

    one = "/api/v1/eventHooks/{id}"
    return [
        Route("/api/v1/eventHooks", answer, methods=["GET", "POST"]),
        Route(one, answer, methods=["GET", "PUT", "DELETE"]),
        Route(f"{one}/lifecycle/{{step}}", answer, methods=["POST"]),
    ]


def _read(body: bytes) -> _HookSpec:
    """Parse and check the definition of a hook. Raises Refusal."""
    try:
        spec = msgspec.json.decode(body, type=_HookSpec)
    except msgspec.DecodeError as error:
        raise _invalid(str(error)) from None
    items = spec.events.items
    if not 1 <= len(items) <= _MOST_TYPES:
        raise _invalid(f"events.items: between 1 and {_MOST_TYPES} event types")
    if refused := [item for item in items if not _eligible(item)]:
        raise _invalid(f"events.items: '{refused[0]}' is not eligible for event hooks")
    _check(spec.channel.config.uri)
    return spec


def _eligible(item: str) -> bool:
    """Return True unless a type is known to be ineligible; Okta has more types than occur here."""
    return "." in item and item not in okta_events.NOT_ELIGIBLE


def _check(uri: str) -> None:
    """Check the URL: Okta requires HTTPS, the sandbox a loopback address, where http will do."""
    try:
        pushes.check(uri)
    except NotHere as error:
        raise _invalid(f"channel.config.uri: {error}") from None


def _created(hooks: _Hooks, request: Request, spec: _HookSpec) -> _Hook:
    if sum(hook.active for hook in hooks.found.values()) >= _MOST_HOOKS:
        raise _invalid(f"at most {_MOST_HOOKS} event hooks can be active")
    if hooks.follower is None:
        hooks.follower = hooks.site.follower("system_log")
        subscription = Subscription(kind="okta", fresh=hooks.news, patience=_PATIENCE)
        hooks.site.courier.subscribe(subscription)
    now, id_ = hooks.site.clock(), f"who{uuid.uuid4().hex[:14]}1d7"
    address = f"{str(request.url.replace(query='')).rstrip('/')}/{id_}"
    hook = _Hook(id=id_, spec=spec, created=now, updated=now, address=address)
    hooks.found[id_] = hook
    return hook


def _hook(hooks: _Hooks, request: Request) -> _Hook:
    id_ = request.path_params["id"]
    if id_ not in hooks.found:
        raise _not_found(f"{id_} (EventHook)")
    return hooks.found[id_]


def _replaced(hooks: _Hooks, hook: _Hook, spec: _HookSpec) -> _Hook:
    """Update a hook; a changed channel must be verified again."""
    hook.verified = hook.verified and spec.channel == hook.spec.channel
    hook.spec, hook.updated = spec, hooks.site.clock()
    return hook


def _delete(hooks: _Hooks, hook: _Hook) -> None:
    if hook.active:
        raise _invalid("an active event hook cannot be deleted: deactivate it first")
    del hooks.found[hook.id]


def _activate(site: Site, hook: _Hook) -> None:
    hook.active, hook.updated = True, site.clock()


def _deactivate(site: Site, hook: _Hook) -> None:
    hook.active, hook.updated = False, site.clock()


def _verify(site: Site, hook: _Hook) -> None:
    """Verify that the endpoint returns the challenge; an error is retried once."""
    challenge = uuid.uuid4().hex
    delivery = Delivery(
        kind="okta",
        what="verification",
        method="GET",
        url=hook.config.uri,
        headers={"X-Okta-Verification-Challenge": challenge, "Accept": "application/json"},
    )
    for _ in range(2):
        answer = site.courier.send(delivery, _SECONDS)
        if answer is not None and answer.is_success:
            break
    reply = decoded(answer.content) if answer is not None and answer.is_success else None
    if not isinstance(reply, dict) or reply.get("verification") != challenge:
        raise _invalid("the endpoint did not answer the verification request with its challenge")
    hook.verified, hook.updated = True, site.clock()


def _delivery(site: Site, hook: _Hook, records: Sequence[Record]) -> Delivery:
    body = {
        "eventType": "com.okta.event_hook",
        "eventTypeVersion": "1.0",
        "cloudEventsVersion": "0.1",
        "source": hook.address,
        "eventId": str(uuid.uuid4()),
        "data": {"events": [_pushed(record) for record in records]},
        "eventTime": iso(site.clock()),
        "contentType": "application/json",
    }
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    return Delivery(
        kind="okta",
        what="events",
        url=hook.config.uri,
        headers=headers | hook.headers(),
        body=msgspec.json.encode(body),
        carries=site.carried("system_log", records),
    )


def _pushed(record: Record) -> Any:
    """Return an event as hooks send it: `ipChain` is moved, `insertionTimestamp` is added."""
    event = decoded(record.raw)
    if not isinstance(event, dict):
        return event
    chain = (event.pop("request", None) or {}).get("ipChain")
    if isinstance(event.get("client"), dict):
        event["client"]["ipChain"] = chain
    return {**event, "insertionTimestamp": None}


def _type(record: Record) -> object:
    event = decoded(record.raw)
    return event.get("eventType") if isinstance(event, dict) else None


def _as_json(hook: _Hook) -> dict[str, Any]:
    """Return a hook as Okta's API shows it, without the secret."""
    config, scheme = hook.config, hook.config.auth_scheme
    follows = "deactivate" if hook.active else "activate"
    post = {"hints": {"allow": ["POST"]}}
    return {
        "id": hook.id,
        "status": "ACTIVE" if hook.active else "INACTIVE",
        "verificationStatus": "VERIFIED" if hook.verified else "UNVERIFIED",
        "name": hook.spec.name,
        "description": hook.spec.description,
        "created": iso(hook.created),
        "createdBy": _ADMIN,
        "lastUpdated": iso(hook.updated),
        "events": {"type": "EVENT_TYPE", "items": hook.spec.events.items, "filter": None},
        "channel": {
            "type": "HTTP",
            "version": "1.0.0",
            "config": {
                "uri": config.uri,
                "headers": [msgspec.to_builtins(pair) for pair in config.headers or ()],
                "method": "POST",
                "authScheme": {"type": "HEADER", "key": scheme.key} if scheme else None,
            },
        },
        "_links": {
            "self": {"href": hook.address},
            "verify": {"href": f"{hook.address}/lifecycle/verify", **post},
            follows: {"href": f"{hook.address}/lifecycle/{follows}", **post},
        },
    }


def _invalid(cause: str) -> Refusal:
    return Refusal(400, "E0000001", "Api validation failed: eventHook", causes=[cause])


def _not_found(resource: str) -> Refusal:
    return Refusal(404, "E0000007", f"Not found: Resource not found: {resource}")
