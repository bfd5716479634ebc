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
"""Of a request, by lower-case name; no name twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a vendor sent by itself, once it is known to come from there."""

    headers: Headers
    """Those that `Push.keeps` names."""
    body: bytes
    """Unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Records that were handed in; each as exact as the vendor sent it."""

    stream: str
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Something that is to be fetched now, by `Push.fetch`."""

    stream: str
    item: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Something has happened: a round of the stream will bring it."""

    stream: str
    told: Sequence[bytes] = ()
    """What was said of it: records by whose identity it can be told whether it has come."""


Held = Pushed | Named | Look
"""What a delivery holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an integration is to be pushed to, and with which secret."""

    name: str
    """The integration's own in auditlake.toml."""
    address: str
    secret: SecretStr
    streams: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What a vendor knows of us."""

    stream: str
    """Or several, with commas."""
    id: str
    active: bool = True
    expires: datetime | None = None
    resource: str = ""
    """What else it takes to end it."""
    note: str = ""


Known = Sequence[Subscription]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """How subscriptions are made by the vendor's API; each is given those known so far."""

    register: Callable[[Any, httpx.Client, Endpoint, Known, datetime], Known]
    """(settings, client, endpoint, known, now) -> what there is now; renews what there was."""
    look: Callable[[Any, httpx.Client, Endpoint, Known], Known]
    """What of it the vendor still has, and in which state."""
    remove: Callable[[Any, httpx.Client, Endpoint, Known], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Push:
    """What a vendor sends by itself: how it is told from a forgery, and what it holds."""

    authentic: Callable[[Headers, str], bool]
    """(headers, secret): compares in constant time, and is asked before a body is read."""
    read: Callable[[Any, Delivery], Sequence[Held]]
    """(settings, delivery) -> what it holds; nothing for a greeting. Raises Malformed."""
    keeps: tuple[str, ...] = ()
    """Headers that `read` needs."""
    media_types: frozenset[str] = frozenset({"application/json"})
    """What a body may be; "" where the vendor may leave it unsaid."""
    packed: bool = False
    """Whether a body may be gzip."""
    challenge: Callable[[Headers], bytes | None] | None = None
    """The answer to a GET by which the vendor tries the address, before any secret: JSON."""
    fetch: Callable[[Any, httpx.Client, bytes], Page] | None = None
    """(settings, client, item) -> what a Named stands for."""
    enrolment: Enrolment | None = None
    """None: only the vendor's console does it, by `steps`."""
    steps: Sequence[str] = ()
    """What a person does in the console; {address} and {secret} are filled in."""
    auth: Callable[[Any], httpx.Auth] | None = None
    """How to sign in for the enrolment, where that takes other rights than reading."""
