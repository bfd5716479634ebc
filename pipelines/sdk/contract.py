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

from pipelines.sdk.pages import Cursor, Page, Span
from pipelines.sdk.push import Push
from pipelines.settings import IntegrationSettings


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
