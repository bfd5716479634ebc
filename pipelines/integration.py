"""What an integration is: frozen values that say all that auditlake has to know about a service.

A connector is one module with one `INTEGRATION`. It holds no retries, rate limits, timeouts, state,
logging, Dagster or Delta: `pages` asks and yields, and whoever calls it does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from pipelines.settings import IntegrationSettings

Cursor = str
"""A place in a stream, made and read by its stream alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times from `since` up to, not including, `until`; both aware and in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What was asked for and will not come, such as a file the vendor no longer has."""

    span: Span
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer: records as they came, and the place that resumes after them."""

    records: Sequence[bytes]
    """Each record's exact bytes."""
    cursor: Cursor
    """Once the records have landed, `pages` may start from here."""
    covers: Span | None = None
    """What is known to have been asked for completely once this page has landed."""
    gaps: Sequence[Gap] = ()
    """What will be missing for ever."""
    milestone: bool = False
    """The cursor is worth keeping although no record came with it."""
    fallback_time: datetime | None = None
    """The time of records that carry none, such as the time in a log file's name."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column of `events` made by a function of the values at some paths of the record.

    A missing value is None. What the function raises makes this one column null, never the row.
    In place of a path may stand a Field, which is made once a row for all columns that name it.
    """

    derive: Callable[..., object]
    parts: tuple[str | Field, ...]

    def __init__(self, derive: Callable[..., object], *parts: str | Field) -> None:
        object.__setattr__(self, "derive", derive)
        object.__setattr__(self, "parts", parts)

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of its parts, each once."""
        found = ((part,) if isinstance(part, str) else part.paths for part in self.parts)
        return tuple(dict.fromkeys(path for paths in found for path in paths))


Columns = Mapping[str, str | Field]
"""Our column <- their path, or a Field.

"actor.id"; "events[].name" inside an exploded list; "actor.id|ActorID" where a record has one of
two spellings.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One log of a service; made once, so that what is compiled from it is compiled once."""

    name: str
    begin: Callable[[datetime, datetime], Cursor]
    """(since, now) -> the cursor of a first run that reaches back to `since`."""
    pages: Callable[[httpx.Client, Cursor, datetime], Iterator[Page]]
    """(client, cursor, now) -> what has come since, to its end, newest visible early."""
    between: Callable[[Span, datetime], Cursor] | None = None
    """(span, now) -> a cursor whose pages end with the span; None: the vendor has no such query."""
    learn: Callable[[Cursor, Sequence[timedelta]], Cursor] | None = None
    """(cursor, how late records were: quantiles, ascending) -> a cursor that reads again by it."""
    id: str | Field | None
    """The vendor's identity of a record. The same identity implies the same time.

    None: the vendor gives none, and the record's own bytes are its identity.
    """
    time: str | Field
    """RFC 3339 text, or a Field that gives it or an aware datetime."""
    columns: Columns
    target_rank: Mapping[str, int] = field(default_factory=dict)
    """Type of a target -> its rank; of several, the lowest is the one a person would name first."""
    explode: str | None = None
    """The list in a record that holds its events, such as Google's "events"."""
    latest_of: str | None = None
    """Where a vendor re-publishes a record changed: `events` shows the newest of equal values.

    A path; raw keeps every version, its event_id is the value there, "@" and a hash of the
    content. Versions of one record have the same time.
    """
    keeps: timedelta
    """How far back the vendor keeps this log."""
    lag: timedelta = timedelta(0)
    """How late the vendor says an event may become visible."""
    page_size: int = 1000
    """What a full page holds: a hint for progress, never a rule for when to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a service wants to be asked; shared by all requests of one credential."""

    rate: tuple[int, float] | None = None
    """At most so many requests in so many seconds."""
    pause: Callable[[httpx.Response], float] = lambda _: 0.0
    """Seconds to wait before the next request, after a good answer."""
    throttled: Callable[[httpx.Response], bool] = lambda response: response.status_code == 429
    """Is this answer a "later"? Then it is asked again, after `retry_after`."""
    retry_after: Callable[[httpx.Response], float | None] = lambda _: None
    """Seconds a throttled answer asks to wait, where Retry-After does not say it."""
    first_pause: float = 0.0
    """Seconds to wait at first where a throttled answer does not say how long; then ever longer."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What a person has to know to connect the service: the README's table is made from this."""

    credentials: str
    permissions: str
    history: str
    delay: str
    push: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Integration:
    """A service: how to configure it, how to sign in, which logs it has."""

    kind: str
    title: str
    settings: type[IntegrationSettings]
    streams: Callable[[Any], Sequence[Stream]]
    """settings -> the streams they allow (their `streams` picks among them); None -> all."""
    auth: Callable[[Any], httpx.Auth]
    manners: Manners = field(default_factory=Manners)
    advice: Callable[[httpx.Response], str | None] = lambda _: None
    """A refusal -> what to do about it, naming the permission, privilege or plan."""
    guide: Guide
    push: Push | None = None
    """None: the vendor pushes nothing that belongs to these streams."""
    mapping_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configured instance of an integration; several of one kind may stand side by side."""

    name: str
    integration: Integration
    settings: Any

    @property
    def kind(self) -> str:
        return self.integration.kind

    def streams(self) -> list[Stream]:
        """The streams to extract: all, or the subset the settings name."""
        chosen = self.settings.streams
        return [
            s for s in self.integration.streams(self.settings) if not chosen or s.name in chosen
        ]
