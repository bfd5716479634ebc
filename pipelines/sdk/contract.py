"""The contract of a connector: frozen values that describe a service and its streams.

A connector is one module with one `INTEGRATION`. It contains no retries, rate limits, timeouts,
state, logging, Dagster or Delta: `pages` sends requests and yields pages, its caller does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx

from pipelines.sdk import values
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Cursor, Page, Span
from pipelines.sdk.push import Push
from pipelines.sdk.record_versions import Comparison
from pipelines.sdk.tenant import Tenant, by_address
from pipelines.settings import IntegrationSettings


@dataclass(frozen=True, slots=True)
class Field:
    """A column of `events`, computed by a function from the values at some paths of the record.

    A missing value is passed as None. If the function raises, this column is null and the row is
    kept. A part may itself be a Field: it is computed once per row for all columns that use it.
    """

    derive: Callable[..., object]
    parts: tuple[str | Field, ...]

    def __init__(self, derive: Callable[..., object], *parts: str | Field) -> None:
        object.__setattr__(self, "derive", derive)
        object.__setattr__(self, "parts", parts)

    @property
    def paths(self) -> tuple[str, ...]:
        """Return every path it reads, nested fields included, without duplicates."""
        found = ((part,) if isinstance(part, str) else part.paths for part in self.parts)
        return tuple(dict.fromkeys(path for paths in found for path in paths))


Columns = Mapping[str, str | Field]
"""Our column <- their path, or a Field.

"actor.id"; "events[].name" inside an exploded list; "actor.id|ActorID" where records use one of
two spellings.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One log of a service. Create it once: its compiled reader is cached by identity."""

    name: str
    begin: Callable[[datetime, datetime], Cursor]
    """(since, now) -> the cursor of a first run that reaches back to `since`."""
    pages: Callable[[httpx.Client, Cursor, datetime], Iterator[Page]]
    """(client, cursor, now) -> every page after the cursor; recent events come before history."""
    between: Callable[[Span, datetime], Cursor] | None = None
    """(span, now) -> a cursor for this span only; None if the vendor cannot query a range."""
    reached: Callable[[Cursor], datetime | None] = lambda _: None
    """cursor -> the time up to which it counts events as fetched, where it contains one."""
    learn: Callable[[Cursor, Sequence[timedelta]], Cursor] | None = None
    """(cursor, ascending quantiles of the observed lag) -> the cursor with re-reads tuned to it."""
    id: str | Field | None
    """The vendor's identity of a record. The same identity implies the same time.

    None: the vendor has none, so the SHA-256 of the record's bytes is used.
    """
    time: str | Field
    """RFC 3339 text, or a Field that returns such text or an aware datetime."""
    columns: Columns
    classified_as: str | Field | None = None
    """The text to look up in the mapping table where the action is too vague; null: the action."""
    target_rank: Mapping[str, int] = field(default_factory=dict)
    """Target type -> rank; of the targets with a name, the lowest rank becomes the main one."""
    explode: str | None = None
    """The list inside a record that contains its events, such as Google's "events"."""
    latest_of: str | None = None
    """Path of the identity where a vendor re-publishes changed records; `events` has the newest.

    raw keeps every version, with the event_id "<value>@<hash of the content>". All versions of a
    record have the same time.
    """
    versions: Comparison = field(default_factory=Comparison)
    """How two records with the same id are compared; differing ones are stored both."""
    keeps: timedelta
    """How far back the vendor keeps this log."""
    lag: timedelta = timedelta(0)
    """How late an event may become visible, according to the vendor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPolicy:
    """Rate limits and throttling of a service; shared by all requests of one credential."""

    rate: tuple[int, float] | None = None
    """(count, seconds): at most `count` requests in any `seconds`."""
    delay_after: Callable[[httpx.Response], float] = lambda _: 0.0
    """Seconds to wait after a successful response before the next request."""
    is_throttled: Callable[[httpx.Response], bool] = lambda response: response.status_code == 429
    """Whether the response means "try later"; the request is retried after `retry_after`."""
    retry_after: Callable[[httpx.Response], float | None] = lambda _: None
    """Seconds to wait after a throttled response that has no Retry-After header."""
    changes: Callable[[httpx.Request], str | None] = lambda _: None
    """A name for a request that changes something at the vendor, such as a subscription's start.

    A request of the same name is sent once within `changes_every` seconds, and never retried.
    """
    changes_every: float = 0.0
    first_delay: float = 0.0
    """Initial backoff after a throttled response that gives no time; doubles with each retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Docs:
    """The facts an operator needs to connect the service: one row of the README's table."""

    credentials: str
    permissions: str
    history: str
    delay: str
    push: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Integration:
    """A service: its settings, authentication and streams."""

    kind: str
    title: str
    settings: type[IntegrationSettings]
    streams: Callable[[Any], Sequence[Stream]]
    """settings -> the streams available with them, before `settings.streams`; None -> all."""
    auth: Callable[[Any], httpx.Auth]
    request_policy: RequestPolicy = field(default_factory=RequestPolicy)
    advice: Callable[[httpx.Response], str | None] = lambda _: None
    """Refused response -> how to fix it, naming the permission, privilege or plan."""
    docs: Docs
    push: Push | None = None
    """None: the vendor has no webhooks for these streams."""
    mapping_version: int = 1
    tenant: Callable[[Any, Stream], Tenant] = lambda settings, _: by_address(settings.base_url)
    """(settings, stream) -> the tenant whose log it is, without secrets; see sdk/tenant.py."""
    nothing: frozenset[str] = values.NOTHING
    """Words that the service writes where it has no value; null in ids, names and the like."""
    endings: Callable[[Any], Iterable[Ending]] = lambda _: ()
    """settings -> the ends that are known without a request, such as an announced shutdown."""
    reported_endings: Callable[[Any, httpx.Client], Iterable[Ending]] | None = None
    """(settings, client) -> the ends of the credential that the service reports.

    None: it reports none. Any error means that the end is not known.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A configured instance of an integration; there may be several of one kind."""

    name: str
    integration: Integration
    settings: Any

    @property
    def kind(self) -> str:
        return self.integration.kind

    def streams(self) -> list[Stream]:
        """Return the streams to extract: all, or the subset named in the settings."""
        chosen = self.settings.streams
        return [
            s for s in self.integration.streams(self.settings) if not chosen or s.name in chosen
        ]
