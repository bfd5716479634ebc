"""Atlassian Guard: the audit log of an Atlassian organisation.

The events stream is ordered by processing time, so late events are never skipped, and even its last
page has a cursor. History is read newest first. If the stream is refused in a round, that round
falls back to the older query, in windows of event time.
https://developer.atlassian.com/cloud/admin/organization/rest/api-group-events/
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Annotated, Any

import httpx
import msgspec
from pydantic import BeforeValidator, field_validator

from pipelines.errors import Refused, TooHeavy, Unavailable
from pipelines.sdk import answers, auth, endings, json_records, pasted, webhook_auth
from pipelines.sdk import windows as sdk_windows
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.headers import sent_at, server_seconds
from pipelines.sdk.pages import Cursor, Gap, Page, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import Delivery, Hint, Push
from pipelines.sdk.values import NOTHING, first, known, objects
from pipelines.settings import Address, IntegrationSettings

_LIMIT, _DOCUMENTED_LIMIT = 500, 200
_MINUTE = 60.0
_PER_MINUTE = 50  # of the stream; the headers lower it to the 10 of the query
_KEEPS = timedelta(days=180)
_LAG = timedelta(days=1)
_OVERLAP = timedelta(days=2)
_GONE = (400, 404, 410)
_NOT_OFFERED = (403, 404, 405, 410)
_STEPS = sdk_windows.reread_plan(
    window=timedelta(days=7), settle=timedelta(minutes=15), lag=_LAG, keeps=_KEEPS
)

_Query = dict[str, str | int]


_ROOT = "https://api.atlassian.com"
_ORGANISATION = pasted.identifier(pasted.UUID, "the id in admin.atlassian.com/o/ID")


class Settings(IntegrationSettings):
    kind: str = "atlassian"
    base_url: Address = _ROOT
    org_id: Annotated[str, BeforeValidator(_ORGANISATION)]
    api_key: pasted.OrganizationKey
    api_key_name: str | None = None
    """The name of the key in the console, for warnings before it expires."""

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if pasted.is_below(value, "atlassian.net", "admin.atlassian.com"):
            raise ValueError(f"this is a site or the console: set {_ROOT}, or remove the key")
        return pasted.root(value, [_ROOT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position in the events stream and, where it is refused, in the windows."""

    since: int
    """Unix time in milliseconds from which live reading restarts if its cursor is lost."""
    live: str | None = None
    """The live cursor."""
    history: list[int] | None = None
    """From and to in milliseconds: still to be read, from the end to the beginning."""
    back: str | None = None
    """The cursor in the history."""
    part: int = 0
    """Milliseconds of history per query, where all of it at once is too heavy; 0: all of it."""
    windows: str | None = None
    """The cursor in windows of event time, while the stream is refused."""
    bounded: bool = False
    """Read the windows of one span only."""


def _begin(since: datetime, now: datetime) -> Cursor:
    recent = max(since, now - _OVERLAP)
    history = [_milliseconds(since), _milliseconds(recent)] if since < recent else None
    return _dump(Place(since=_milliseconds(recent), history=history))


def _between(span: Span, now: datetime) -> Cursor:
    windows = sdk_windows.between(_STEPS)(span, now)
    return _dump(Place(since=_milliseconds(now), windows=windows, bounded=True))


def _reached(cursor: Cursor) -> datetime:
    place = Place(**json.loads(cursor))
    return sdk_windows.reached(place.windows) if place.windows else _time(place.since)


class Walk:
    """The log of one organisation."""

    def __init__(self, org_id: str) -> None:
        self._path = f"admin/v1/orgs/{org_id}"

    def pages(self, client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
        place = Place(**json.loads(cursor))
        offered = not place.bounded and (yield from self._offered(client, place, now))
        if not offered:
            yield from self._windows(client, place, now)

    def _offered(
        self, client: httpx.Client, place: Place, now: datetime
    ) -> Generator[Page, None, bool]:
        """Yield the pages of the events stream; return False if the service refuses it."""
        try:
            yield from self._stream(client, replace(place, windows=None), now)
        except Refused as error:
            if error.status not in _NOT_OFFERED:
                raise
            return False
        return True

    def _windows(self, client: httpx.Client, place: Place, now: datetime) -> Iterator[Page]:
        since = place.history[0] if place.history else _without_cursor(place)
        windows = place.windows or sdk_windows.begin(_STEPS)(_time(since), now)
        for page in sdk_windows.pages(_STEPS, self._window)(client, windows, now):
            yield replace(page, cursor=_dump(replace(place, windows=page.cursor)))

    def _stream(self, client: httpx.Client, place: Place, now: datetime) -> Iterator[Page]:
        """Yield live pages up to an empty one, since the cursor never ends; then history."""
        began, more = place.since, True
        while more:
            found, after = self._present(client, place)
            stuck = bool(found and after) and after == place.live
            more = bool(found and after) and not stuck
            # Not beyond `now`, up to which this round covers: the next one begins here.
            since = max(began, min(_processed(found, place.since), _milliseconds(now)))
            place = replace(place, live=after or place.live, since=since)
            # Only an empty page, or one without a cursor, proves that there is nothing more.
            covers = None if more or stuck else Span(since=_time(began), until=now)
            yield Page(records=found, cursor=_dump(place), covers=covers)
        later = iter(sdk_windows.LATER)
        while history := place.history:
            try:
                page, place = self._past(client, place, history)
            except TooHeavy as error:
                place = _narrowed(place, history, error)
                page = Page(records=(), cursor=_dump(place), milestone=True)
            except Refused as error:
                if error.status != httpx.codes.BAD_REQUEST:
                    raise
                span = Span(since=_time(history[0]), until=_time(history[1]))
                gap = sdk_windows.unkept(span, _KEEPS, error, now, later)
                place = _shortened(place, history, gap)
                page = Page(records=(), cursor=_dump(place), gaps=(gap,))
            yield page

    def _present(self, client: httpx.Client, place: Place) -> tuple[list[bytes], str | None]:
        """Return live records and the cursor after them; without a valid cursor, read by time."""
        by_time: _Query = {"from": _without_cursor(place)}
        return self._resumed(client, place.live, {"sortOrder": "asc"}, by_time)

    def _past(
        self, client: httpx.Client, place: Place, history: Sequence[int]
    ) -> tuple[Page, Place]:
        """Return a page of `history` (since, until) and the position after it."""
        oldest, until = history
        since = max(oldest, until - place.part) if place.part else oldest
        bounds: _Query = {"sortOrder": "desc", "from": since, "to": until}
        found, after = self._resumed(client, place.back, bounds, {})
        if found and after and after == place.back:
            raise Unavailable(
                "atlassian repeats a page of its history, which is not complete; "
                "the next round retries"
            )
        if found and after:
            place = replace(place, back=after)
            return Page(records=found, cursor=_dump(place)), place
        place = replace(place, history=[oldest, since] if oldest < since else None, back=None)
        covers = Span(since=_time(since), until=_time(until))
        ended = place.history is None
        return Page(records=found, cursor=_dump(place), covers=covers, milestone=ended), place

    def _resumed(
        self, client: httpx.Client, cursor: str | None, query: _Query, restart: _Query
    ) -> tuple[list[bytes], str | None]:
        """Return the page after a cursor; if it is missing or refused, add `restart` instead."""
        if cursor:
            try:
                return self._events(client, {**query, "cursor": cursor})
            except Refused as error:
                if error.status not in _GONE:
                    raise
        return self._events(client, {**query, **restart})

    def _events(self, client: httpx.Client, query: _Query) -> tuple[list[bytes], str | None]:
        return self._get(client, "events-stream", query)

    def _get(
        self, client: httpx.Client, name: str, query: _Query
    ) -> tuple[list[bytes], str | None]:
        """Return one page and the cursor after it."""
        path = f"{self._path}/{name}"
        # Where 500 per page are refused, use the default.
        try:
            return _answer(client.get(path, params={"limit": _LIMIT, **query}))
        except Refused as error:
            if error.status != httpx.codes.BAD_REQUEST or b"limit" not in error.body.lower():
                raise
        return _answer(client.get(path, params={"limit": _DOCUMENTED_LIMIT, **query}))

    def _window(self, client: httpx.Client, span: Span) -> Iterator[Sequence[bytes] | Gap]:
        """Yield the pages of the older query, newest first, up to one without a cursor."""
        parameters: _Query = {
            "from": _milliseconds(span.since),
            "to": _milliseconds(span.until) + 1000,
        }
        trail = Trail("atlassian events")
        while True:
            found, after = self._get(client, "events", parameters)
            yield found
            if not after:
                return
            trail.follow(after, found)
            parameters["cursor"] = after


def _narrowed(place: Place, history: Sequence[int], error: TooHeavy) -> Place:
    """Return the place with half the history per query. Raises the error if that is short."""
    since, until = history
    start = max(since, until - place.part) if place.part else since
    _, newer = sdk_windows.halves(Span(since=_time(start), until=_time(until)), error)
    part = (newer.until - newer.since) // timedelta(milliseconds=1)
    return replace(place, part=part, back=None)


def _shortened(place: Place, history: Sequence[int], gap: Gap) -> Place:
    """Return the place without the history that the service no longer keeps."""
    since, until = _milliseconds(gap.span.until), history[1]
    return replace(place, history=[since, until] if since < until else None, back=None)


class _Meta(msgspec.Struct):
    next: str | None = None


class _Attributes(msgspec.Struct):
    processed: str | None = msgspec.field(default=None, name="processedAt")


class _Processed(msgspec.Struct):
    attributes: _Attributes = msgspec.field(default_factory=_Attributes)


def _answer(response: httpx.Response) -> tuple[list[bytes], str | None]:
    """Return the records and the cursor after them. Raises Unavailable if there is no data."""
    answer = json_records.split_object(response.content)
    if "data" not in answer:
        raise Unavailable(
            f"atlassian answered 200 without data{answers.quoted(response)}; the next round retries"
        )
    found = [] if answer["data"] == b"null" else json_records.split_array(answer["data"])
    meta = msgspec.json.decode(answer.get("meta", b"{}"), type=_Meta | None)
    return found, (meta and meta.next) or _linked(answer.get("links"))


def _linked(links: bytes | None) -> str | None:
    """Return the cursor in the link to the next page, where the metadata has none."""
    found = json_records.load(links) if links else None
    link = found.get("next") if isinstance(found, dict) else None
    return httpx.URL(link).params.get("cursor") if isinstance(link, str) else None


def _without_cursor(place: Place) -> int:
    """Return the time to restart from: further back by _LAG if a cursor was lost."""
    return place.since - (_LAG // timedelta(milliseconds=1) if place.live else 0)


def _processed(found: Sequence[bytes], before: int) -> int:
    """Return the processing time of the last record in milliseconds, or else `before`."""
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


_DIGIT = re.compile(r"\d")
_BY_TOKEN = {
    # Part of an authType -> who acted with it; the first match counts, "user" for sessions.
    "connect": "application",
    "oauth": "application",
    "forge": "application",
    "app": "application",
    "token": "api_key",
    "key": "api_key",
}


_APPS = ("app", "apps", "agent", "bot")


def _actor_type(  # noqa: PLR0917 one per path
    app: Any, id_: Any, email: Any, name: Any, token: Any, account: Any
) -> str | None:
    """Return the actor's type; actions by a token or an app are not those of a "user"."""
    if app or account in _APPS or _is_product(id_, email):
        return "application"
    if isinstance(token, str) and token:
        lower = token.lower()
        return next((ours for word, ours in _BY_TOKEN.items() if word in lower), "user")
    if first(id_, email):
        return "user"
    return "system" if name else None


def _is_product(id_: Any, email: Any) -> bool:
    """Return whether the actor is a product, such as `confluence`, or the account of an app."""
    if isinstance(email, str) and "@" in email:
        return email.endswith("@connect.atlassian.com")
    named = isinstance(id_, str) and id_ not in NOTHING and not _DIGIT.search(id_)
    return named or email == "Atlassian app"


_SIGNED = re.compile("(^|_)(login|logout|logged_(in|out))(_|$)")


@lru_cache(maxsize=4096)
def _outcome_of(action: str) -> str:
    """Return the outcome, of which only the names of failures and of sign-ins tell something."""
    if "fail" in action:
        return "failure"
    return "success" if _SIGNED.search(action) and "polic" not in action else "unknown"


def _outcome(action: Any) -> str:
    return _outcome_of(action) if isinstance(action, str) else "unknown"


def _targets(  # noqa: PLR0917 one per path
    context: Any, container: Any, app: Any, actor: Any, behalf: Any, action: Any, token: Any
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for things in (context, container):
        for thing in objects(things):
            _add(found, thing)
    # An app that acts for a person.
    if isinstance(app, dict) and actor:
        _add(found, {**app, "type": "apps"})
    if isinstance(behalf, dict):
        name = first(behalf.get("name"), behalf.get("email"))
        found.append({"id": behalf.get("id"), "name": name, "type": "onBehalfOf"})
    if token and "token" in str(action):
        found.append(token)
    return found


def _token(kind: Any, id_: Any, label: Any) -> dict[str, Any] | None:
    """Return the token that an action is about: in a session it is not the one that was used."""
    return {"id": id_, "name": label, "type": "tokens"} if label and kind == "session" else None


_NAMES = ("name", "groupName", "roleName", "displayName", "title", "issueKeyOrId", "siteName",
          "siteHostName", "cloudUrl", "productName", "email")  # fmt: skip
_PARTS = {
    # Attributes of a thing that name what somebody gets in it -> the type of that target.
    "role": "roles",
    "roleName": "roles",
    "roles": "roles",
    "newRole": "roles",
    "oldRole": "roles",
    "groupName": "groups",
    "permissionName": "permissions",
    "permission": "permissions",
    "permissions": "permissions",
    "product": "products",
    "productName": "products",
    "products": "products",
    "settingName": "settings",
}
_PART_NAMES = frozenset(_PARTS)


def _add(found: list[dict[str, Any]], thing: dict[str, Any]) -> None:
    """Append a target and those that its attributes name, such as a role in a product."""
    attributes, name, kind = thing.get("attributes"), None, thing.get("type")
    if not isinstance(attributes, dict):
        attributes = {}
    for key in _NAMES:
        if (name := attributes.get(key)) and known(name):
            break
    else:
        name = known(thing.get("name"))
    found.append({"id": thing.get("id"), "name": name, "type": kind})
    if _PART_NAMES.isdisjoint(attributes):
        return
    for key, value in attributes.items():
        # The product of a site is only where something happened.
        if (part := _PARTS.get(key)) and part != kind and (kind, part) != ("sites", "products"):
            names = (each for each in _texts(value) if each != name)
            found += [{"id": None, "name": each, "type": part} for each in names]


def _texts(value: Any) -> list[str]:
    """Return the text, or the names in a list of texts or objects."""
    given = value if isinstance(value, list) else [value]
    names = (each.get("name") if isinstance(each, dict) else each for each in given)
    return [name for name in names if isinstance(name, str) and known(name)]


COLUMNS: Columns = {
    "action": "attributes.action",
    "actor_id": "attributes.actor.id",
    "actor_name": "attributes.actor.name",
    "actor_email": Field(_email, "attributes.actor.email"),
    "actor_type": Field(
        _actor_type,
        "attributes.actor.app",
        "attributes.actor.id",
        "attributes.actor.email",
        "attributes.actor.name",
        "attributes.actor.auth.authType",
        "attributes.actor.accountType|attributes.actor.type",
    ),
    "targets": Field(
        _targets,
        "attributes.context",
        "attributes.container",
        "attributes.actor.app",
        "attributes.actor.id",
        "attributes.actor.onBehalfOf",
        "attributes.action",
        Field(
            _token,
            "attributes.actor.auth.authType",
            "attributes.actor.auth.tokenId",
            "attributes.actor.auth.tokenLabel",
        ),
    ),
    "outcome": Field(_outcome, "attributes.action"),
    "source_ip": "attributes.location.ip",
    "city": "attributes.location.city",
    "country": "attributes.location.countryName",
    "message": "message.content",
}


@cache
def _streams_of(org_id: str) -> tuple[Stream, ...]:
    return (
        Stream(
            name="events",
            begin=_begin,
            pages=Walk(org_id).pages,
            between=_between,
            reached=_reached,
            id="id",
            time="attributes.time|attributes.processedAt",
            columns=COLUMNS,
            target_rank={"users": 0, "groups": 1, "policies": 2},
            keeps=_KEEPS,
            lag=_LAG,
        ),
    )


def _streams(settings: Settings | None) -> tuple[Stream, ...]:
    return _streams_of(settings.org_id if settings else "")


def _pause(response: httpx.Response) -> float:
    used_up = response.headers.get("X-RateLimit-Remaining") == "0"
    return _until_reset(response) if used_up else 0.0


def _until_reset(response: httpx.Response) -> float:
    """Return the seconds until X-RateLimit-Reset, an ISO 8601 time."""
    try:
        reset = datetime.fromisoformat(response.headers["X-RateLimit-Reset"])
        reset = reset if reset.tzinfo else reset.replace(tzinfo=UTC)
        # Sometimes cut to the minute: then wait until that minute is over.
        vague = _MINUTE if reset.second == reset.microsecond == 0 else 0.0
        return vague + server_seconds(response, reset.timestamp())
    except (KeyError, TypeError, ValueError):
        return _MINUTE


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return (
                "the API key is wrong, has expired (after a year at most) or belongs to another "
                "organisation: create one in admin.atlassian.com > Settings > API keys"
            )
        case 403:
            return (
                "the API key lacks the scope read:events:admin, or the organisation has no Guard "
                "Standard, Guard Premium or Cloud Enterprise plan"
            )
        case 404:
            return "organisation not found: set org_id to the id in admin.atlassian.com/o/ID"
    return None


def _endings(settings: Settings, client: httpx.Client) -> list[Ending]:
    """Return the end of the API key: the one with the name in the settings, or the only valid one.

    No response contains the key itself, so one of several without a name cannot be recognised.
    """
    response = client.get(f"admin/api-access/v1/orgs/{settings.org_id}/api-keys")
    now, ends = sent_at(response), list[Ending]()
    for key in objects(answers.members(response.content).get("data")):
        if settings.api_key_name in (None, key.get("label"), key.get("name")):
            ends += endings.reported("the API key", key.get("expiresAt"), _NEW_KEY)
    valid = [end for end in ends if now is None or end.at > now]
    return valid if len(valid) == 1 else []


_NEW_KEY = (
    "create a new one in admin.atlassian.com > Settings > API keys, for a year at most, and set "
    "api_key"
)


def _hints(_: Settings, delivery: Delivery) -> list[Hint]:
    """Return a hint with the events of a delivery; the log's records have more fields."""
    return [Hint(stream="events", records=_events(delivery.body))]


def _events(body: bytes) -> list[bytes]:
    """Return the events in a body: one, a list, or either of them as `data` or `events`."""
    if body.lstrip().startswith(b"["):
        return json_records.split_array(body)
    members = json_records.split_object(body)
    within = members.get("data") or members.get("events")
    if within is None:
        return [body]
    return json_records.split_array(within) if within.startswith(b"[") else [within]


PUSH = Push(
    authentic=webhook_auth.authorised,
    read=_hints,
    steps=(
        "Open admin.atlassian.com > your organization > Insights (or Security) > Audit log > "
        "Settings > Webhook. This needs Guard Premium or an Enterprise plan; three are allowed.",
        "URL: {address}",
        "Authorization header: Bearer {secret}",
        "Save, and press the test button.",
    ),
)

INTEGRATION = Integration(
    kind="atlassian",
    title="Atlassian",
    settings=Settings,
    streams=_streams,
    auth=lambda settings: auth.Header("Authorization", "Bearer", settings.api_key),
    request_policy=RequestPolicy(
        rate=(_PER_MINUTE, _MINUTE), delay_after=_pause, retry_after=_until_reset
    ),
    advice=_advice,
    mapping_version=5,
    tenant=lambda settings, _: {"org_id": settings.org_id},
    reported_endings=_endings,
    docs=Docs(
        credentials="Organization API key",
        permissions="scope `read:events:admin`; Guard Standard or Premium, or Cloud Enterprise",
        history="180 days",
        delay="not published",
        push="audit log webhooks (Guard Premium, Enterprise)",
    ),
    push=PUSH,
)
