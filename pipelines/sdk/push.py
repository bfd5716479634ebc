"""Webhooks as a connector describes them: deliveries, their content, and subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from pydantic import SecretStr

from pipelines.sdk.pages import Page

Headers = Mapping[str, str]
"""Request headers by lower-case name; each name occurs once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook request that has passed authentication."""

    headers: Headers
    """The headers listed in `Push.keeps`."""
    body: bytes
    """Decompressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Records contained in the delivery, byte for byte as sent."""

    stream: str
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A reference to content that `Push.fetch` fetches now."""

    stream: str
    item: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A hint that a stream has new events: it triggers an immediate poll."""

    stream: str
    records: Sequence[bytes] = ()
    """Records whose identity shows whether polling has stored the events already."""


Content = Records | Reference | Hint
"""One item of a delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The address and the secret for pushes to one integration."""

    name: str
    """The integration's name in auditlake.toml."""
    address: str
    secret: SecretStr
    streams: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A registered webhook, as the vendor reports it."""

    stream: str
    """Several streams are separated by commas."""
    id: str
    active: bool = True
    expires: datetime | None = None
    resource: str = ""
    """A second identifier, where removal needs one."""
    note: str = ""


Subscriptions = Sequence[Subscription]


def _no_fetch(_settings: Any, _client: httpx.Client, _item: bytes) -> Page:
    raise NotImplementedError("this connector returns References, so its Push needs `fetch`")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionApi:
    """Manages subscriptions through the vendor's API; each call receives those known so far."""

    register: Callable[[Any, httpx.Client, Endpoint, Subscriptions, datetime], Subscriptions]
    """(settings, client, endpoint, known, now) -> the current ones; creates or renews them."""
    current: Callable[[Any, httpx.Client, Endpoint, Subscriptions], Subscriptions]
    """(settings, client, endpoint, known) -> the current ones with their state."""
    remove: Callable[[Any, httpx.Client, Endpoint, Subscriptions], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Push:
    """A vendor's webhooks: how to authenticate, read and register them."""

    authentic: Callable[[Headers, str], bool]
    """(headers, secret) -> is it genuine? Runs in constant time, before the body is read."""
    read: Callable[[Any, Delivery], Sequence[Content]]
    """(settings, delivery) -> its items; none for a handshake. Raises MalformedJson."""
    keeps: tuple[str, ...] = ()
    """Headers that `read` needs."""
    media_types: frozenset[str] = frozenset({"application/json"})
    """Accepted content types; "" accepts a request without one."""
    packed: bool = False
    """Whether the body may be compressed with gzip."""
    challenge: Callable[[Headers], bytes | None] | None = None
    """The JSON response to the GET by which a vendor verifies the address; carries no secret."""
    fetch: Callable[[Any, httpx.Client, bytes], Page] = _no_fetch
    """(settings, client, item) -> the page that a Reference refers to."""
    subscription_api: SubscriptionApi | None = None
    """None: webhooks are set up in the vendor's console only, following `steps`."""
    steps: Sequence[str] = ()
    """Instructions for the console; {address} and {secret} are filled in."""
    auth: Callable[[Any], httpx.Auth] | None = None
    """Authentication for the subscription_api, where it needs permissions beyond reading."""
