"""Opsgenie's log files, and the operations logs of its successors JSM and Compass.

Opsgenie shuts down in April 2027. Its logs are files of lines in an unpublished format, so each
line is kept as it is and identified by its hash. Files are listed after a marker, the name of the
last file read; a file may still appear or grow before it, so each round re-lists the last minutes.
Files are downloaded from signed addresses, which must not receive the API key.
https://docs.opsgenie.com/docs/logs-api
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self

import httpx
import msgspec
from pydantic import BeforeValidator, SecretStr, field_validator, model_validator

from pipelines.errors import ForeignLink, Refused, Unavailable
from pipelines.sdk import answers, auth, json_records, pasted, tenant, values, webhook_auth, windows
from pipelines.sdk.auth import Flow
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Cursor, Gap, Page, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import Delivery, Hint, Push
from pipelines.sdk.tenant import Tenant
from pipelines.settings import Address, IntegrationSettings

_LIMIT = 1000
_KEEPS = timedelta(days=365)
_LAG = timedelta(minutes=15)
_RECENT = timedelta(days=1)
_TRIES = 5
_LIVE_EVERY = 100  # files of history between two live polls
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SHUTDOWN = datetime(2027, 4, 5, tzinfo=UTC)
_AFTER_MIGRATION = timedelta(days=120)
_OPERATIONS_KEEP = timedelta(days=180)
_OPERATIONS_LAG = timedelta(hours=1)
_LADDER = windows.reread_plan(
    window=timedelta(days=7),
    settle=timedelta(minutes=15),
    lag=_OPERATIONS_LAG,
    keeps=_OPERATIONS_KEEP,
)
_PATHS = {
    "jira_service_management": "/jsm/ops/api/{}/v1/logs",
    "compass": "/compass/cloud/{}/ops/v1/logs",
}


_ROOTS = (
    "https://api.opsgenie.com",
    "https://api.eu.opsgenie.com",
    "https://api.sandbox.opsgenie.com",
)
_OPERATIONS = "https://api.atlassian.com"
_CLOUD = pasted.identifier(
    pasted.UUID, "the cloudId in https://<site>.atlassian.net/_edge/tenant_info"
)


class Settings(IntegrationSettings):
    kind: str = "opsgenie"
    base_url: Address = _ROOTS[0]
    api_key: pasted.Token | None = None
    migrated_on: date | None = None
    """The day of the migration to a successor: the account ends 120 days later at the latest."""
    operations_url: Address = _OPERATIONS
    operations: tuple[Literal["jira_service_management", "compass"], ...] = (
        "jira_service_management",
    )
    cloud_id: Annotated[str, BeforeValidator(_CLOUD)] | None = None
    email: pasted.Person | None = None
    api_token: pasted.AccountToken | None = None

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        if pasted.is_below(value, "atlassian.com", "atlassian.net"):
            raise ValueError(
                "an Opsgenie key is not valid there: set https://api.opsgenie.com or "
                "https://api.eu.opsgenie.com; the logs of Jira Service Management and Compass need "
                "cloud_id, email and api_token instead"
            )
        if pasted.is_below(value, "app.opsgenie.com", "app.eu.opsgenie.com"):
            raise ValueError("this is the console: set https://api.opsgenie.com or its EU form")
        return pasted.root(value, _ROOTS)

    @field_validator("operations_url")
    @classmethod
    def _operations_api(cls, value: str) -> str:
        if pasted.is_below(value, "opsgenie.com", "atlassian.net"):
            raise ValueError(f"set {_OPERATIONS}, or remove the key")
        return pasted.root(value, [_OPERATIONS])

    @field_validator("api_token")
    @classmethod
    def _of_an_account(cls, value: SecretStr | None) -> SecretStr | None:
        if value and pasted.UUID.fullmatch(value.get_secret_value()):
            raise ValueError("this is an Opsgenie key: set it as api_key")
        return value

    @model_validator(mode="after")
    def _some_way_in(self) -> Self:
        successor = (self.cloud_id, self.email, self.api_token)
        if any(successor) and not all(successor):
            raise ValueError("set all of cloud_id, email and api_token for the operations logs")
        if not (self.api_key or all(successor)):
            raise ValueError("not configured: set api_key, or cloud_id, email and api_token")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Progress through the files by name, hence by time; markers are names without `.json`."""

    marker: str
    """Everything up to here is stored."""
    since: str
    until: str | None = None
    """The marker at which it ends; None if it follows new files."""
    seen: dict[str, int] = field(default_factory=dict)
    """Marker -> size of the files shortly before `marker`, which may still grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position of the stream, both live and in the history still to be read."""

    live: Walk | None
    history: Walk | None


class _File(msgspec.Struct, frozen=True):
    filename: str
    date: int = 0
    size: int = 0

    @property
    def marker(self) -> str:
        return self.filename.removesuffix(".json")

    @property
    def time(self) -> datetime:
        """Return the time in the name, or else the time the file became visible."""
        try:
            return _time(self.marker)
        except ValueError:
            return _EPOCH + timedelta(milliseconds=self.date)


class _Listing(msgspec.Struct):
    data: list[_File] | None = None
    marker: str | None = None


_listing = msgspec.json.Decoder(_Listing, strict=False)


def begin(since: datetime, now: datetime) -> Cursor:
    # Markers have whole seconds: live must begin where history ends.
    recent = max(since, now - _RECENT).replace(microsecond=0)
    live = Walk(marker=_marker(recent), since=recent.isoformat())
    return _cursor(Place(live=live, history=_history(since, recent)))


def between(span: Span, now: datetime) -> Cursor:
    """Return a cursor without a live position."""
    return _cursor(Place(live=None, history=_history(span.since, min(span.until, now))))


def reached(cursor: Cursor) -> datetime | None:
    live = _load(cursor).live
    return datetime.fromisoformat(live.since) if live else None


def _history(since: datetime, until: datetime) -> Walk | None:
    if since >= until:
        return None
    return Walk(marker=_marker(since), since=since.isoformat(), until=_marker(until))


def pages(client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
    place = yield from _present(client, _load(cursor), now)
    if not place.history:
        return
    for count, (page, walk) in enumerate(_follow(client, place.history, now), start=1):
        ended = page.covers is not None
        place = replace(place, history=None if ended else walk)
        yield replace(page, cursor=_cursor(place), milestone=ended)
        if count % _LIVE_EVERY == 0:
            place = yield from _present(client, place, now)


def _present(client: httpx.Client, place: Place, now: datetime) -> Generator[Page, None, Place]:
    """Yield all new files, and return the position after them."""
    if place.live:
        since = datetime.fromisoformat(place.live.since)
        for page, walk in _follow(client, place.live, now):
            place = replace(place, live=walk)
            # History reads the earlier files too, and reports those that are still gone.
            gaps = [gap for gap in page.gaps if not place.history or gap.span.since >= since]
            yield replace(page, cursor=_cursor(place), gaps=gaps)
    return place


def _follow(client: httpx.Client, walk: Walk, now: datetime) -> Iterator[tuple[Page, Walk]]:
    """Yield one page per file, then an empty one with the span that is covered."""
    # Live reading goes back by _LAG, since files may still appear or grow there.
    marker = walk.marker if walk.until else _earlier(walk.marker, _LAG)
    trail = Trail("opsgenie logs")
    trail.follow(marker, [])
    while True:
        listing = _list(client, marker)
        files = sorted(listing.data or (), key=lambda file: file.marker)
        for file in files:
            if _ended(walk, file.marker):
                break
            if walk.seen.get(file.marker) != file.size:
                page = _read(client, file)
                walk = _after(walk, file)
                yield page, walk
        following = listing.marker or (files[-1].marker if files else marker)
        # A list of nothing beyond the marker is the end, unless it has another marker.
        beyond = any(file.marker > marker for file in files)
        if (not beyond and following == marker) or _ended(walk, following):
            break
        trail.follow(following, [file.filename.encode() for file in files])
        marker = following
    since = datetime.fromisoformat(walk.since)
    until = now if walk.until is None else _time(walk.until)
    yield Page(records=(), cursor="", covers=Span(since=since, until=until)), walk


def _ended(walk: Walk, marker: str) -> bool:
    return walk.until is not None and marker >= walk.until


def _after(walk: Walk, file: _File) -> Walk:
    """Return the walk after a file has landed, without the files too old to grow."""
    marker = max(walk.marker, file.marker)
    if walk.until is not None:
        return replace(walk, marker=marker)
    oldest = _earlier(marker, 2 * _LAG)
    seen = {name: size for name, size in walk.seen.items() if name >= oldest}
    return replace(walk, marker=marker, seen={**seen, file.marker: file.size})


def _list(client: httpx.Client, marker: str) -> _Listing:
    response = client.get(f"/v2/logs/list/{marker}", params={"limit": _LIMIT})
    listing = _listing.decode(response.content)
    if listing.data is None:
        raise Unavailable(
            f"opsgenie answered 200 without a list of files{answers.quoted(response)}; "
            "the next round retries"
        )
    return listing


def _read(client: httpx.Client, file: _File) -> Page:
    """Return a page with the lines of a file, or with a gap if the file is gone."""
    try:
        body = _download(client, file)
    except Refused as error:
        if error.status not in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            raise
        span = Span(since=file.time, until=file.time + _MINUTE)
        gap = Gap(span=span, reason=f"{file.filename} is gone")
        return Page(records=(), cursor="", gaps=(gap,))
    return Page(records=json_records.split_lines(body), cursor="", fallback_time=file.time)


def _download(client: httpx.Client, file: _File) -> bytes:
    """Return a file, downloaded from its signed address, which is valid for five minutes.

    Neither the address nor the file is a JSON document, so truncation shows only in the length. If
    two downloads are equal but shorter than listed, the listed size is considered wrong.
    """
    link, body = _link(client, file), None
    for _ in range(_TRIES):
        try:
            found = client.get(_followed(client, link), auth=None).content
        except Refused as error:
            if error.status != httpx.codes.NOT_FOUND:
                # Expired or truncated: of two new addresses, the longer one is complete.
                link = max(_link(client, file), _link(client, file), key=len)
                continue
            raise
        if len(found) >= file.size or found == body:
            return found
        body = found
    raise Unavailable(f"{file.filename} cannot be downloaded completely; the next round retries")


def _link(client: httpx.Client, file: _File) -> str:
    return client.get(f"/v2/logs/download/{file.filename}").text.strip().strip('"')


def _followed(client: httpx.Client, link: str) -> httpx.URL:
    """Return the address of a file. Raises ForeignLink unless its scheme is that of base_url."""
    # Another host is documented and gets no credential, but the contents need encryption.
    with suppress(httpx.InvalidURL):
        url = httpx.URL(link)
        if url.host and url.scheme == client.base_url.scheme:
            return url
    raise ForeignLink("the address of a log file is not an https address: not followed")


def _marker(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d-%H-%M-%S")


def _earlier(marker: str, span: timedelta) -> str:
    with suppress(ValueError):
        return _marker(_time(marker) - span)
    return marker


def _time(marker: str) -> datetime:
    """Return a marker's time in UTC; milliseconds are optional. Raises ValueError."""
    second, _, millisecond = marker.partition("_")
    time = datetime.strptime(second, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    return time + timedelta(milliseconds=int(millisecond or 0))


def _cursor(place: Place) -> Cursor:
    return json.dumps(asdict(place), separators=(",", ":"))


def _load(cursor: Cursor) -> Place:
    stored = json.loads(cursor)
    return Place(**{name: Walk(**walk) if walk else None for name, walk in stored.items()})


def _operations_read(url: str) -> windows.Read:
    """Return the reader of a successor's log."""

    def read(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes]]:
        query = httpx.QueryParams(
            startTime=_rfc3339(span.since),
            endTime=_rfc3339(span.until),
        )
        trail = Trail("the operations log")
        trail.follow(str(query), [])
        while True:
            response = client.get(url, params=query)
            answer = json_records.split_object(response.content)
            if "values" not in answer:
                raise Unavailable(
                    f"the operations log answered 200 without values{answers.quoted(response)}; "
                    "the next round retries"
                )
            values = answer["values"]
            found = [] if values == b"null" else json_records.split_array(values)
            yield found
            # Only the query of the link is used, because its path lacks the API's prefix.
            link = _next(url, answer.get("links"))
            if link is None:
                return
            trail.follow(str(link), found)
            query = link

    return read


def _next(url: str, links: bytes | None) -> httpx.QueryParams | None:
    found = json_records.load(links) if links else None
    link = found.get("next") if isinstance(found, dict) else None
    if not link:
        return None
    following, own = httpx.URL(link), httpx.URL(url)
    if following.host and (following.scheme, following.netloc) != (own.scheme, own.netloc):
        raise ForeignLink(
            f"a response links to {following.scheme}://{following.netloc.decode()}: not followed, "
            "because the credential would be sent there; check operations_url"
        )
    return following.params


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


# The format of lines and details, as far as it is known. A leading _ in a name means that the value
# is an object, a leading - that it is a list.
_BRACKETS = re.compile(r"\s*\[[^\]]*\]")
_FIRST = re.compile(r"^([^\[]*?)\s*\[([^\]]*)\]")
_OTHERS = re.compile(r"\b(?!\w*Id\b)(\w+)\s*\[([^\]]*)\]")
_LEADING = re.compile(r"^\[([^\]]+)\]\s*(.*?)\s*((?:logged )?\w+)\.?$")
_DATA_ID = re.compile(r"incomingDataId[=\[: ]+([0-9a-zA-Z-]+)")
_TRUE = {True: "success", "true": "success", False: "failure", "false": "failure"}
_TIMES = ("created", "createdAt", "createdDate", "time", "timestamp", "date", "updatedAt")


def _parsed(text: str) -> Any:
    with suppress(ValueError):
        return json_records.load(text.encode())
    return None


_EMPTY: Mapping[str, Any] = {}


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        value = _parsed(value)
    return value if isinstance(value, dict) else {}


class _Facts(NamedTuple):
    """The contents of a record, whether it is an envelope with `details` or the details alone."""

    details: Mapping[str, Any]
    incoming: Mapping[str, Any]
    result: Mapping[str, Any]


def _facts(details: Any, incoming: Any, result: Any) -> _Facts:
    inside = _mapping(details) if details else _EMPTY
    incoming, result = incoming or inside.get("_incomingData"), result or inside.get("_result")
    return _Facts(
        details=inside,
        incoming=_mapping(incoming) if incoming else _EMPTY,
        result=_mapping(result) if result else _EMPTY,
    )


_NOTHING = values.NOTHING | {"None"}


def _or_none(value: Any) -> Any:
    """Return the value, or None for texts such as "null"."""
    return None if isinstance(value, str) and value in _NOTHING else value


def _known_time(*given: Any) -> Any:
    for value in given:
        if isinstance(value, str) and len(value) > 9 and value[4:5] == "-":
            return value
        if isinstance(value, int | float | str) and (time := _since_1970(value)):
            return time
    return None


def _since_1970(value: float | str) -> datetime | None:
    """Return the time of a Unix time in seconds, milliseconds, microseconds or nanoseconds."""
    try:
        number = float(value)
        while 1e11 < number < math.inf:
            number /= 1000
        return datetime.fromtimestamp(number, UTC) if number > 1e9 else None
    except (ValueError, OverflowError):
        return None


def _action(facts: _Facts, own: Any, *texts: Any) -> str:
    """Return the name of an alert's action, or else the text without the names in it."""
    named = own or facts.result.get("alertAction") or facts.details.get("action")
    if isinstance(named, str) and _or_none(named):
        return named
    for text in texts:
        if isinstance(text, str) and (words := _words(text)):
            return words
    return "API request" if facts.incoming.get("httpUrl") else "log line"


def _words(text: str) -> str:
    """Return `Schedule updated` for `Schedule [name: A] updated.` or `[Schedule] A updated`."""
    if found := _LEADING.match(text):
        return f"{found[1]} {found[3]}"
    return _BRACKETS.sub("", text).strip(" .")


def _user(facts: _Facts, *own: Any) -> str | None:
    details = facts.details
    given = (*own, facts.result.get("user"), *map(details.get, ("user", "username", "source")))
    for value in given:
        if value and isinstance(value, str) and value not in _NOTHING:
            return value
    return None


def _email(user: str | None) -> str | None:
    return user if user and "@" in user else None


def _actor_type(user: str | None) -> str | None:
    if user is None:
        return None
    if "@" in user:
        return "user"
    return "system" if user.lower() == "system" else "application"


def _targets(facts: _Facts, text: Any, log: Any, *own: Any) -> list[dict[str, Any]]:
    alert_id, alias, integration = own
    details = facts.details
    parts = () if _PART_NAMES.isdisjoint(details) else _parts(details)
    user, source = details.get("targetUser"), integration or _integration(facts)
    url = facts.incoming.get("httpUrl") if facts.incoming else None
    found = [
        _alert(facts, alert_id, alias),
        _target(None, user, "user") if user else None,
        _target(None, source, "integration") if source else None,
        _target(url, None, "url") if url else None,
        *parts,
    ]
    if not any(found[:3]):
        named = _named(text or log)
        if parts:
            known = {part["name"] for part in parts if part}
            named = [each for each in named if each and each["name"] not in known]
        found = [*named, *found]
    return [target for target in found if target]


_PARTS = {
    # Members of details that name something -> the type of the target.
    **dict.fromkeys(("team", "teamName", "_team", "-teams"), "team"),
    **dict.fromkeys(("role", "roleName", "_role", "userRole", "newRole", "oldRole"), "role"),
    **dict.fromkeys(("escalation", "escalationName", "_escalation"), "escalation"),
    **dict.fromkeys(("schedule", "scheduleName", "_schedule"), "schedule"),
    **dict.fromkeys(("_targetUser", "_member", "memberName", "-members"), "user"),
}
_PART_NAMES = frozenset(_PARTS)
_NAMED_BY = ("name", "fullName", "username", "user", "email")


def _parts(details: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """Return the teams, roles and the like in details; each a text, an object or a list of them."""
    found: list[dict[str, Any] | None] = []
    for key, kind in _PARTS.items():
        value = details.get(key)
        found += [_part(each, kind) for each in (value if isinstance(value, list) else [value])]
    return found


def _part(value: Any, kind: str) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return _target(value.get("id"), values.first(*map(value.get, _NAMED_BY)), kind)
    return _target(None, value, kind) if isinstance(value, str) else None


def _alert(facts: _Facts, *own: Any) -> dict[str, Any] | None:
    details, _, result = facts
    for id_ in (result.get("alertId"), *own, details.get("alias")):
        if id_ and _or_none(id_):
            return _target(id_, result.get("alertMessage") or details.get("message"), "alert")
    return None


def _integration(facts: _Facts) -> Any:
    return (
        facts.details.get("integrationName")
        or facts.result.get("integrationName")
        or facts.incoming.get("integrationName")
    )


def _target(id_: Any, name: Any, kind: str) -> dict[str, Any] | None:
    id_, name = _or_none(id_), _or_none(name)
    return {"id": id_, "name": name, "type": kind} if id_ or name else None


_PREPOSITIONS = ("to", "from", "of", "for", "by", "as")


def _named(text: Any) -> list[dict[str, Any] | None]:
    """Return the targets in a text: c1 for `Schedule rotation [scheduleId: f1, id: c1] added.`"""
    if not isinstance(text, str):
        return []
    if found := _LEADING.match(text):
        return [_target(None, found[2], found[1].lower())]
    if not (found := _FIRST.match(text)):
        return []
    others = [_inside(*pair) for pair in _OTHERS.findall(text, found.end())]
    named = [_inside(*found.groups()), *others]
    for target in named:
        if target and target["type"] in _PREPOSITIONS:
            person = "@" in str(target["name"]) or "role" not in text.lower()
            target["type"] = "user" if person else "role"
    return named


def _inside(kind: str, inside: str) -> dict[str, Any] | None:
    pairs = dict(part.split(": ", 1) for part in inside.split(", ") if ": " in part)
    name = values.first(*map(pairs.get, _NAMED_BY)) if pairs else inside
    return _target(pairs.get("id") or next(iter(pairs.values()), None), name, kind.lower())


def _outcome(facts: _Facts, own: Any) -> str | None:
    """Return the outcome from `success`, which few records have; a level is no outcome."""
    success = facts.details.get("success") if own is None else own
    return _TRUE.get(success) if isinstance(success, bool | str) else None


def _headers(facts: _Facts) -> dict[str, str]:
    """Return the logged HTTP headers by lower-case name, the first value of each."""
    found: dict[str, str] = {}
    if not facts.incoming:
        return found
    for name, value in _mapping(facts.incoming.get("_httpHeaders")).items():
        if isinstance(value, str):
            found.setdefault(name.lower(), value)
        elif isinstance(value, list) and value and isinstance(value[0], str):
            found.setdefault(name.lower(), value[0])
    return found


_FORWARDED = ("true-client-ip", "x-client-ip")
_ADDRESSES = frozenset({"ip", "ipAddress", "clientIp", "sourceIp", "remoteIp", "remoteAddress"})


def _address(headers: dict[str, str], facts: _Facts) -> Any:
    """Return the sender's address from the HTTP headers, or else the one in the details."""
    found = headers.get("x-forwarded-for") or headers.get("x-real-ip")
    if found or (headers and (found := values.first(*map(headers.get, _FORWARDED)))):
        return found
    for given in (facts.details, facts.incoming):
        if not _ADDRESSES.isdisjoint(given):
            return values.first(*map(given.get, sorted(_ADDRESSES)))
    return None


def _agent(headers: dict[str, str]) -> str | None:
    return headers.get("user-agent")


def _severity(level: Any, facts: _Facts, priority: Any) -> Any:
    if level or priority:
        return level or priority
    parsed = _mapping(facts.details.get("_parsedData"))
    return facts.details.get("priority") or parsed.get("priority")


def _sentence(summary: Any, message: Any, log: Any) -> Any:
    return summary or message or log


def _correlation(facts: _Facts, event: Any, *texts: Any) -> Any:
    known = facts.incoming.get("incomingDataId") or event or facts.details.get("eventId")
    if known:
        return known
    for text in texts:
        if isinstance(text, str) and (found := _DATA_ID.search(text)):
            return found[1]
    return None


_FACTS = Field(_facts, "details", "_incomingData", "_result")
_USER = Field(_user, _FACTS, "user", "username", "source", "owner")
_HEADERS = Field(_headers, _FACTS)
_COLUMNS: Columns = {
    "action": Field(_action, _FACTS, "action", "summary", "log", "category", "type"),
    "actor_name": _USER,
    "actor_email": Field(_email, _USER),
    "actor_type": Field(_actor_type, _USER),
    "targets": Field(_targets, _FACTS, "summary", "log", "alertId", "alias", "integrationName"),
    "outcome": Field(_outcome, _FACTS, "success"),
    "source_ip": Field(_address, _HEADERS, _FACTS),
    "user_agent": Field(_agent, _HEADERS),
    "severity": Field(_severity, "level", _FACTS, "priority"),
    "message": Field(_sentence, "summary", "message", "log"),
    "correlation_id": Field(_correlation, _FACTS, "eventId", "summary", "log", "message"),
}
_RANK = {"alert": 0, "url": 100}


def _hash(*values: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


LOGS = Stream(
    name="logs",
    begin=begin,
    pages=pages,
    between=between,
    reached=reached,
    id=None,
    time=Field(_known_time, *_TIMES),
    keeps=_KEEPS,
    lag=_LAG,
    target_rank=_RANK,
    columns=_COLUMNS,
)


@cache
def _operations(product: str, url: str) -> Stream:
    """Return the stream of a successor's log, always the same object for the same arguments."""
    return Stream(
        name=f"{product}_operations",
        begin=windows.begin(_LADDER),
        pages=windows.pages(_LADDER, _operations_read(url)),
        between=windows.between(_LADDER),
        reached=windows.reached,
        learn=windows.learn(_LADDER),
        id=Field(_hash, "created", "category", "summary", "level", "details"),
        time="created",
        keeps=_OPERATIONS_KEEP,
        lag=_OPERATIONS_LAG,
        target_rank=_RANK,
        columns=_COLUMNS,
    )


def _streams(settings: Settings | None) -> Sequence[Stream]:
    if settings is None:
        return (LOGS, *(_operations(product, path) for product, path in _PATHS.items()))
    successors = settings.operations if settings.cloud_id else ()
    return (
        *((LOGS,) if settings.api_key else ()),
        *(
            _operations(
                product, settings.operations_url + _PATHS[product].format(settings.cloud_id)
            )
            for product in successors
        ),
    )


def _tenant(settings: Settings, stream: Stream) -> Tenant:
    # An Opsgenie account has no id in the settings besides its secret key, only a region.
    if stream is LOGS:
        return tenant.by_address(settings.base_url)
    return {"cloud_id": settings.cloud_id or ""}


class _EachItsOwn(httpx.Auth):
    """Sends each of the two hosts its own credential, and none to any other host."""

    def __init__(self, ways: Mapping[str, httpx.Auth]) -> None:
        self._ways = ways

    def auth_flow(self, request: httpx.Request) -> Flow:
        for url, way in self._ways.items():
            if str(request.url).startswith(f"{url}/"):
                yield from way.auth_flow(request)
                return
        yield request


def _auth(settings: Settings) -> httpx.Auth:
    ways: dict[str, httpx.Auth] = {}
    if settings.email and settings.api_token:
        basic = httpx.BasicAuth(settings.email, settings.api_token.get_secret_value())
        ways[settings.operations_url] = basic
    if settings.api_key:
        ways[settings.base_url] = auth.Header("Authorization", "GenieKey", settings.api_key)
    return _EachItsOwn(ways)


def _advice(response: httpx.Response) -> str | None:
    match auth.scheme(response.request):
        case "Basic":
            return _operations_advice(response)
        case "":
            return (
                "the address of the log file is no longer valid: the next round fetches a new one"
            )
    match response.status_code:
        case 401:
            return (
                "api_key is invalid, its integration is disabled, or it belongs to another "
                "region: check it, or set base_url to https://api.eu.opsgenie.com"
            )
        case 402:
            return "the plan does not include the logs API: upgrade to Enterprise"
        case 403:
            return (
                "api_key may not read the logs: use the key of a global API integration with "
                "Configuration Access (not a team's), in an Enterprise plan"
            )
    return None


def _operations_advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return "email or api_token is invalid or has expired: create an Atlassian API token"
        case 403:
            return (
                "the account may not view audit logs: make it an organization, site or product "
                "admin of Jira Service Management or Compass"
            )
        case 404:
            return (
                "the site has no such operations log: check cloud_id "
                "(https://<site>.atlassian.net/_edge/tenant_info) and operations"
            )
    return None


def _endings(settings: Settings) -> Iterator[Ending]:
    """Yield the end of Opsgenie, which has been announced; of its successors nothing is known."""
    if not settings.api_key or settings.base_url not in _ROOTS:
        return
    end = _SHUTDOWN
    if day := settings.migrated_on:
        end = min(end, datetime(day.year, day.month, day.day, tzinfo=UTC) + _AFTER_MIGRATION)
    yield Ending(
        what="Opsgenie's API",
        at=end,
        advice="fetch all of its history before that, and add cloud_id, email and api_token for "
        "the logs of Jira Service Management or Compass",
        ahead=timedelta(days=365),
    )


def _pause(response: httpx.Response) -> float:
    """Return a pause if a successful response reports that the account is being throttled."""
    throttled = response.headers.get("X-RateLimit-State", "OK") == "THROTTLED"
    return _period(response) or 1.0 if throttled else 0.0


def _period(response: httpx.Response) -> float | None:
    try:
        return float(response.headers["X-RateLimit-Period-In-Sec"])
    except (KeyError, ValueError):
        return None


def _hints(settings: Settings, delivery: Delivery) -> list[Hint]:
    """Return a hint for every stream; an alert has no identity to be found in the logs by."""
    json_records.split_object(delivery.body)
    return [Hint(stream=stream.name) for stream in _streams(settings)]


PUSH = Push(
    authentic=webhook_auth.authorised,
    read=_hints,
    steps=(
        "In Opsgenie (or Jira Service Management > Operations) open Settings > Integrations, add "
        "an integration of the type Webhook, and select all alert actions.",
        "Webhook URL: {address}",
        "Custom header: Authorization, value: Bearer {secret}",
        "Save, and enable the integration.",
    ),
)

INTEGRATION = Integration(
    kind="opsgenie",
    title="Opsgenie",
    settings=Settings,
    streams=_streams,
    auth=_auth,
    # Two files per second, each with a request for its address, like the vendor's own tool.
    request_policy=RequestPolicy(rate=(4, 1.0), delay_after=_pause, retry_after=_period),
    advice=_advice,
    mapping_version=5,
    tenant=_tenant,
    endings=_endings,
    nothing=_NOTHING,
    docs=Docs(
        credentials="API key (GenieKey); for Jira Service Management or Compass an Atlassian "
        "account's e-mail and API token, and the cloud ID",
        permissions="key of a global API integration with Configuration Access, Enterprise plan; "
        "organization, site or product admin",
        history="as long as files are kept (up to 1 year); successors 180 days",
        delay="2 minutes; rarely more",
        push="webhooks (alert activity only)",
    ),
    push=PUSH,
)
