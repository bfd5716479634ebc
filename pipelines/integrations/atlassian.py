"""Atlassian Guard: the audit log of an Atlassian organisation.

The events stream is ordered by processing time, so a late event is never passed over, and its
cursor comes on the last page too. History is walked from the newest backwards meanwhile. Where the
stream is refused, the older query is asked by windows of event time instead.
https://developer.atlassian.com/cloud/admin/organization/rest/api-group-events/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import msgspec

from pipelines import auth, coverage, places, records
from pipelines.errors import Refused
from pipelines.integration import (
    Columns,
    Cursor,
    Field,
    Gap,
    Guide,
    Integration,
    Manners,
    Page,
    Span,
    Stream,
)
from pipelines.settings import Address, IntegrationSettings, Secret

_LIMIT = 500
_KEEPS = timedelta(days=180)
_LAG = timedelta(days=1)
_OVERLAP = timedelta(days=2)
_BACK = timedelta(hours=1)
_GONE = (400, 404, 410)
_NOT_OFFERED = (403, 404, 405, 410)
_STEPS = coverage.ladder(
    window=timedelta(days=7), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)


class Settings(IntegrationSettings):
    kind: str = "atlassian"
    base_url: Address = "https://api.atlassian.com"
    org_id: str
    api_key: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the stream is; or, where it is refused, where the windows are."""

    since: int
    """The present is read from here, in milliseconds, where its cursor is lost."""
    live: str | None = None
    """The cursor of the present."""
    history: list[int] | None = None
    """Milliseconds from, to: still to be read, from its end to its beginning."""
    back: str | None = None
    """The cursor of the history."""
    windows: str | None = None
    """The place in windows of event time, once the stream has been refused."""


def _begin(since: datetime, now: datetime) -> Cursor:
    recent = max(since, now - _OVERLAP)
    history = [_milliseconds(since), _milliseconds(recent)] if since < recent else None
    return _dump(Place(since=_milliseconds(recent), history=history))


def _between(span: Span, now: datetime) -> Cursor:
    """Windows only: they end by themselves."""
    windows = coverage.between(_STEPS)(span, now)
    return _dump(Place(since=_milliseconds(now), windows=windows))


class Walk:
    """The log of one organisation."""

    def __init__(self, org_id: str) -> None:
        self._path = f"admin/v1/orgs/{org_id}"

    def pages(self, client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
        place = Place(**json.loads(cursor))
        if place.windows is None:
            try:
                yield from self._stream(client, place, now)
            except Refused as error:
                if place.live or error.status not in _NOT_OFFERED:
                    raise
                since = place.history[0] if place.history else place.since
                windows = coverage.begin(_STEPS)(_time(since), now)
                place = Place(since=place.since, windows=windows)
        if place.windows is not None:
            for page in coverage.pages(_STEPS, self._window)(client, place.windows, now):
                yield replace(page, cursor=_dump(replace(place, windows=page.cursor)))

    def _stream(self, client: httpx.Client, place: Place, now: datetime) -> Iterator[Page]:
        began = place.since
        full = True
        while full:
            found, after, place = self._present(client, place)
            full = len(found) >= _LIMIT
            place = replace(place, live=after or place.live, since=_processed(found, place.since))
            covers = None if full else Span(since=_time(began), until=now)
            yield Page(records=found, cursor=_dump(place), covers=covers)
        while place.history:
            page, place = self._past(client, place)
            yield page

    def _present(self, client: httpx.Client, place: Place) -> tuple[list[bytes], str | None, Place]:
        """Records, the cursor after them, and the place they were asked from."""
        parameters = {"limit": _LIMIT, "sortOrder": "asc"}
        if place.live is None:
            return *self._ask(client, {**parameters, "from": place.since}), place
        try:
            return *self._ask(client, {**parameters, "cursor": place.live}), place
        except Refused as error:
            if error.status not in _GONE:
                raise
        lost = replace(place, live=None, since=place.since - _BACK // timedelta(milliseconds=1))
        return *self._ask(client, {**parameters, "from": lost.since}), lost

    def _past(self, client: httpx.Client, place: Place) -> tuple[Page, Place]:
        """A page of history, and the place after it."""
        assert place.history  # noqa: S101 the caller looked
        since, until = place.history
        parameters: dict[str, Any] = {"limit": _LIMIT, "sortOrder": "desc"}
        parameters |= {"from": since, "to": until}
        if place.back:
            parameters["cursor"] = place.back
        found, after = self._ask(client, parameters)
        if found and after and after != place.back:
            place = replace(place, back=after)
            return Page(records=found, cursor=_dump(place)), place
        place = replace(place, history=None, back=None)
        covers = Span(since=_time(since), until=_time(until))
        return Page(records=found, cursor=_dump(place), covers=covers, milestone=True), place

    def _ask(
        self, client: httpx.Client, parameters: dict[str, Any]
    ) -> tuple[list[bytes], str | None]:
        return _answer(client.get(f"{self._path}/events-stream", params=parameters))

    def _window(self, client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        """The older query: newest first, up to a page without a cursor."""
        parameters: dict[str, Any] = {
            "from": _milliseconds(span.since),
            "to": _milliseconds(span.until) + 1000,
            "limit": _LIMIT,
        }
        while True:
            found, after = _answer(client.get(f"{self._path}/events", params=parameters))
            yield found
            if not found or not after or after == parameters.get("cursor"):
                return
            parameters["cursor"] = after


class _Meta(msgspec.Struct):
    next: str | None = None


class _Attributes(msgspec.Struct):
    processed: str | None = msgspec.field(default=None, name="processedAt")


class _Processed(msgspec.Struct):
    attributes: _Attributes = msgspec.field(default_factory=_Attributes)


def _answer(response: httpx.Response) -> tuple[list[bytes], str | None]:
    answer = records.members(response.content)
    found = records.elements(answer.get("data", b"[]"))
    meta = msgspec.json.decode(answer.get("meta", b"{}"), type=_Meta | None)
    return found, meta.next if meta else None


def _processed(found: Sequence[bytes], before: int) -> int:
    """The processing time of the last record, in milliseconds; what it was where none says so."""
    if not found:
        return before
    try:
        last = msgspec.json.decode(found[-1], type=_Processed).attributes.processed
        return max(before, _milliseconds(datetime.fromisoformat(last or "")))
    except (msgspec.DecodeError, ValueError):
        return before


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _dump(place: Place) -> Cursor:
    return json.dumps(asdict(place), separators=(",", ":"))


def _email(text: Any) -> str | None:
    return text.lower() if isinstance(text, str) and "@" in text else None


def _actor_type(actor: Any) -> str | None:
    """A token or an app acts for itself; all others are people."""
    if not isinstance(actor, dict):
        return None
    if actor.get("app"):
        return "application"
    kind = actor.get("auth")
    if isinstance(kind, dict) and kind.get("authType"):
        return "api_key"
    return "user" if actor.get("id") or actor.get("email") else "system"


def _targets(context: Any, container: Any) -> list[dict[str, Any]]:
    return [
        _target(thing)
        for things in (context, container)
        if isinstance(things, list)
        for thing in things
        if isinstance(thing, dict)
    ]


def _target(thing: dict[str, Any]) -> dict[str, Any]:
    said = thing.get("attributes")
    said = said if isinstance(said, dict) else {}
    names = (said.get(k) for k in ("name", "groupName", "siteName", "siteHostName", "email"))
    return {
        "id": thing.get("id"),
        "name": next((name for name in names if name), None),
        "type": thing.get("type"),
    }


def _message(content: Any, action: Any, name: Any, email: Any) -> str:
    said = content.get("content") if isinstance(content, dict) else content
    if isinstance(said, str) and said.strip():
        return said
    return f"{name or email or 'Somebody'}: {str(action).replace('_', ' ')}"


COLUMNS: Columns = {
    "action": "attributes.action",
    "actor_id": "attributes.actor.id",
    "actor_name": "attributes.actor.name",
    "actor_email": Field(_email, "attributes.actor.email"),
    "actor_type": Field(_actor_type, "attributes.actor"),
    "targets": Field(_targets, "attributes.context", "attributes.container"),
    "source_ip": Field(places.address, "attributes.location.ip"),
    "city": "attributes.location.city",
    "country": "attributes.location.countryName",
    "message": Field(
        _message,
        "message",
        "attributes.action",
        "attributes.actor.name",
        "attributes.actor.email",
    ),
}


@cache
def _streams_of(org_id: str) -> tuple[Stream, ...]:
    return (
        Stream(
            name="events",
            begin=_begin,
            pages=Walk(org_id).pages,
            between=_between,
            id="id",
            time="attributes.time",
            columns=COLUMNS,
            target_rank={"users": 0, "groups": 1, "policies": 2},
            keeps=_KEEPS,
            lag=_LAG,
            page_size=_LIMIT,
        ),
    )


def _streams(settings: Settings | None) -> tuple[Stream, ...]:
    return _streams_of(settings.org_id if settings else "")


def _reset(response: httpx.Response) -> float | None:
    """X-RateLimit-Reset is a time in ISO 8601, at times to the minute only."""
    try:
        until = datetime.fromisoformat(response.headers["X-RateLimit-Reset"])
    except (KeyError, ValueError):
        return 60.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return (
                "the API key is wrong, expired (they last a year at most) or of another "
                "organisation: create one in admin.atlassian.com > Settings > API keys"
            )
        case 403:
            return (
                "the API key lacks the scope read:events:admin, or the organisation has no Guard "
                "Standard, Guard Premium or Cloud Enterprise plan"
            )
        case 404:
            return "there is no such organisation: set org_id to the id in admin.atlassian.com/o/ID"
    return None


INTEGRATION = Integration(
    kind="atlassian",
    title="Atlassian",
    settings=Settings,
    streams=_streams,
    auth=lambda settings: auth.Header("Authorization", "Bearer", settings.api_key),
    manners=Manners(rate=(10, 60.0), retry_after=_reset),
    advice=_advice,
    guide=Guide(
        credentials="Organization API key",
        permissions="scope `read:events:admin`; Guard Standard or Premium, or Cloud Enterprise",
        history="180 days",
        delay="not published",
        push="audit log webhooks (Guard Premium, Enterprise)",
    ),
)
