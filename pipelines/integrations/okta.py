"""Okta System Log: the audit log of an Okta organisation.

The polling query (ascending and open-ended) is ordered by the time an event was stored, so late
events are never skipped, and every response links to the next page. History comes from a bounded
query, newest first, while the polling query already follows new events.
https://developer.okta.com/docs/reference/system-log-query/
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx
from pydantic import Field as Setting
from pydantic import SecretStr, field_validator, model_validator

from pipelines.errors import CursorRefused, Refused, TooHeavy
from pipelines.sdk import (
    answers,
    auth,
    json_records,
    links,
    pasted,
    tenant,
    values,
    webhook_auth,
    windows,
)
from pipelines.sdk.contract import Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.headers import server_seconds
from pipelines.sdk.pages import Cursor, Gap, Page, Span
from pipelines.sdk.pagination import Trail
from pipelines.sdk.push import (
    Delivery,
    Endpoint,
    Headers,
    Push,
    Records,
    Subscription,
    SubscriptionApi,
    Subscriptions,
)
from pipelines.sdk.record_versions import Comparison
from pipelines.settings import Address, IntegrationSettings, Secret

_LIMIT = 1000
_KEEPS = timedelta(days=90)
_OVERLAP = timedelta(hours=2)
_SETTLED = timedelta(hours=1)
_DOMAINS = (
    "okta.com",
    "oktapreview.com",
    "okta-emea.com",
    "okta-gov.com",
    "okta.mil",
    "okta-miltest.com",
    "trex-govcloud.com",
)
_LIVE_EVERY = 20  # history pages between two live polls


class Settings(IntegrationSettings):
    kind: str = "okta"
    base_url: Address
    api_token: pasted.Token | None = None
    client_id: pasted.ClientId | None = None
    private_key: Secret | None = None
    key_id: str | None = None
    hook_events: tuple[str, ...] = Setting(default=(), max_length=300)
    """Event types to push; default: those in okta_hooks.txt."""

    @field_validator("base_url")
    @classmethod
    def _organisation(cls, value: str) -> str:
        """Return the organisation's own address for that of its admin console or of a page."""
        if not pasted.is_below(value, *_DOMAINS):
            return value
        name, _, domain = httpx.URL(value).host.partition(".")
        return f"https://{name.removesuffix('-admin')}.{domain}"

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        _ = self.credential  # raises unless one is complete
        return self

    @property
    def credential(self) -> SecretStr | tuple[str, SecretStr]:
        """The API token, or an OAuth app's client ID and private key."""
        if self.api_token:
            return self.api_token
        if self.client_id and self.private_key:
            return self.client_id, self.private_key
        raise ValueError("not configured: set api_token, or client_id and private_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position of the stream, both live and in the history still to be read."""

    live: str
    """The polling query's next link; empty if only a span of history is read."""
    live_since: str
    history: str | None = None
    """The bounded query's next link, as long as there is history to read."""
    history_since: str = ""
    history_until: str = ""
    """All history at or after this time is stored."""
    part: float = 0.0
    """Seconds of history per query, where all of it at once is too heavy; 0: all of it."""
    part_since: str = ""
    """The start of the current query; empty: `history_since`."""


def begin(since: datetime, now: datetime) -> Cursor:
    # Live starts before history ends, so that no late event falls between them.
    live_since = max(since, now - _OVERLAP)
    place = Place(
        live=_url(since=_text(live_since), sortOrder="ASCENDING"), live_since=_text(live_since)
    )
    if since < live_since:
        place = _history(place, _text(since), _text(now - _SETTLED))
    return _cursor(place)


def between(span: Span, now: datetime) -> Cursor:
    """Return a cursor without a live position."""
    place = Place(live="", live_since="")
    return _cursor(_history(place, _text(span.since), _text(min(span.until, now))))


def reached(cursor: Cursor) -> datetime | None:
    since = Place(**json.loads(cursor)).live_since
    return _time(since) if since else None


def _history(place: Place, since: str, until: str) -> Place:
    part = since
    if place.part:
        part = max(since, _text(_time(until) - timedelta(seconds=place.part)))
    url = _url(since=part, until=until, sortOrder="DESCENDING")
    return replace(place, history=url, history_since=since, history_until=until, part_since=part)


def pages(client: httpx.Client, cursor: Cursor, now: datetime) -> Iterator[Page]:
    later, trail = iter(windows.LATER), Trail("okta system_log")
    place = yield from _follow(client, Place(**json.loads(cursor)), now)
    while place.history:
        place = yield from _look_back(client, place, now, later, trail)
        place = yield from _follow(client, place, now)


def _follow(client: httpx.Client, place: Place, now: datetime) -> Generator[Page, None, Place]:
    """Yield live pages until one is not full."""
    full, trail = bool(place.live), Trail("okta system_log")
    while full:
        response = _get(client, place.live)
        found = json_records.split_array(response.content)
        full = len(found) >= _LIMIT
        place = replace(place, live=links.next_link(client, response) or place.live)
        if full:
            trail.follow(place.live, found)
        # Only the last page proves that nothing is missing up to now.
        covers = None if full else Span(since=_time(place.live_since), until=now)
        yield Page(records=found, cursor=_cursor(place), covers=covers)
    return place


def _look_back(
    client: httpx.Client, place: Place, now: datetime, later: Iterator[timedelta], trail: Trail
) -> Generator[Page, None, Place]:
    """Yield up to _LIVE_EVERY pages of history, newest first."""
    for _ in range(_LIVE_EVERY):
        if not place.history:
            break
        try:
            response = _get(client, place.history)
        except CursorRefused:
            # The link has expired: restart the query at the oldest record that has landed.
            place = _history(place, place.history_since, place.history_until)
            response = _get(client, place.history or "")
        except TooHeavy as error:
            place = _narrowed(place, error)
            yield Page(records=(), cursor=_cursor(place), milestone=True)
            continue
        except Refused as error:
            gap = windows.unkept(_left(place), _KEEPS, error, now, later)
            place = _without(place, gap)
            yield Page(records=(), cursor=_cursor(place), gaps=(gap,))
            continue
        found = json_records.split_array(response.content)
        link = links.next_link(client, response)
        if link:
            trail.follow(link, found)
        until, start = place.history_until, place.part_since or place.history_since
        reached = _oldest(found, until) if link else start
        place = replace(place, history=link, history_until=reached)
        if link is None and start > place.history_since:
            place = _history(place, place.history_since, start)
        yield Page(
            records=found,
            cursor=_cursor(place),
            covers=Span(since=_time(reached), until=_time(until)) if reached < until else None,
            milestone=place.history is None,
        )
    return place


def _left(place: Place) -> Span:
    return Span(since=_time(place.history_since), until=_time(place.history_until))


def _without(place: Place, gap: Gap) -> Place:
    """Return the place without the history that the service no longer keeps."""
    since = _text(gap.span.until)
    if since >= place.history_until:
        return replace(place, history=None)
    return _history(place, since, place.history_until)


def _narrowed(place: Place, error: TooHeavy) -> Place:
    """Return the place with half the history per query. Raises the error if that is short."""
    since = _time(place.part_since or place.history_since)
    span = Span(since=since, until=_time(place.history_until))
    _, newer = windows.halves(span, error)
    part = (newer.until - newer.since).total_seconds()
    return _history(replace(place, part=part), place.history_since, place.history_until)


def _oldest(found: list[bytes], fallback: str) -> str:
    """Return the `until` of a query that resumes after these records if their link is refused."""
    try:
        published = json_records.load(found[-1])["published"]
        return _text(datetime.fromisoformat(published) + timedelta(milliseconds=1))
    except (IndexError, KeyError, TypeError, ValueError):
        return fallback


def _get(client: httpx.Client, url: str) -> httpx.Response:
    try:
        return client.get(url)
    except Refused as error:
        if error.status == httpx.codes.BAD_REQUEST and "after=" in url:
            raise CursorRefused(
                f"okta no longer accepts the cursor of system_log: {error}"
            ) from error
        raise


def _url(**query: str) -> str:
    return f"/api/v1/logs?{urlencode({**query, 'limit': _LIMIT})}"


def _cursor(place: Place) -> Cursor:
    return json.dumps(asdict(place), separators=(",", ":"))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


_OUTCOMES = {"SUCCESS": "success", "ALLOW": "success", "FAILURE": "failure", "DENY": "failure"}
_ACTORS = {
    "User": "user",
    "SystemPrincipal": "system",
    "PublicClientApp": "application",
    "PublicClientAppEntity": "application",
    "AppInstance": "application",
    "IP address": "anonymous",
}


_NOTHING = values.NOTHING | {"Unknown", "UNKNOWN"}
_BETWEEN_ROLES = re.compile(r",\s*(?![^(]*\))")  # "Help desk administrator (Sales, IT), ..."
_BETWEEN_SCOPES = re.compile(r"[\s,\[\]]+")
_OPERATOR_IN = ("operator", "operatorName", "vpnOperator", "name")
_ACTOR_WORDS = {
    # Part of an unlisted actor type -> our type; the first match counts.
    "agent": "application",
    "app": "application",
    "client": "application",
    "workload": "application",
    "service": "service",
    "token": "api_key",
    "key": "api_key",
    "system": "system",
    "user": "user",
}


def _known(value: Any) -> str | None:
    return value if isinstance(value, str) and value not in _NOTHING else None


def _actor_id(known: Any, alternate_id: Any) -> str | None:
    """Return the actor's id, or the attempted login where no such user exists."""
    return _known(known) or (None if _email(alternate_id) else _known(alternate_id))


def _email(alternate_id: Any) -> str | None:
    return alternate_id if isinstance(alternate_id, str) and "@" in alternate_id else None


def _name(display_name: Any, alternate_id: Any) -> str | None:
    return _known(display_name) or _known(alternate_id)


def _actor_type(kind: Any, actor_id: Any) -> str | None:
    if _known(actor_id) is None and _known(kind) in (None, "User"):
        return "anonymous"
    return _ACTORS.get(kind) or _similar(str(kind).lower()) if kind else None


def _similar(kind: str) -> str | None:
    return next((ours for word, ours in _ACTOR_WORDS.items() if word in kind), None)


def _outcome(result: Any) -> str:
    return _OUTCOMES.get(result, "unknown")


def _first_address(address: Any, chain: Any, hook_chain: Any) -> Any:
    if found := _known(address):
        return found
    # The API has the chain below `request`, event hooks have it below `client`.
    hops = (hop.get("ip") for hop in values.objects(chain or hook_chain))
    return next(filter(None, map(_known, hops)), None)


def _as_targets(  # noqa: PLR0917 one per path
    target: Any, granted: Any, revoked: Any, scopes: Any, details: Any, tunnels: Any, hops: Any
) -> list[dict[str, Any]]:
    """Return the targets, and the roles, scopes and networks that stand elsewhere in the record."""
    items = values.objects(target)
    found = [
        {
            "id": _known(item.get("id")),
            "name": _name(item.get("displayName"), item.get("alternateId")),
            "type": item.get("type"),
        }
        for item in items
    ]
    if items and items[0].get("type") == "ConsentGrant":
        found += _clients(items)
    if granted or revoked:
        found += _roles(found, granted, revoked)
    if scopes:
        found += _scopes(found, scopes)
    if details or tunnels or hops:
        found += _networks(details, _listed(tunnels), *(hops or ()))
    return found


def _roles(found: list[dict[str, Any]], *lists: Any) -> list[dict[str, Any]]:
    texts = (text for text in lists if isinstance(text, str))
    roles = (role.strip() for text in texts for role in _BETWEEN_ROLES.split(text))
    return _missing(found, roles, "ROLE")


def _scopes(found: list[dict[str, Any]], granted: Any) -> list[dict[str, Any]]:
    texts = granted if isinstance(granted, list) else [granted]
    scopes = (scope for text in texts if isinstance(text, str)
              for scope in _BETWEEN_SCOPES.split(text))  # fmt: skip
    return _missing(found, scopes, "Scope")


def _missing(found: list[dict[str, Any]], names: Iterable[str], kind: str) -> list[dict[str, Any]]:
    """Return targets with these names, without those found already."""
    named = {target["name"] for target in found}
    return [
        {"id": None, "name": name, "type": kind}
        for name in dict.fromkeys(names)
        if _known(name) and name not in named
    ]


def _clients(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the applications that the scopes of a consent are granted to."""
    details = [item.get("detailEntry") for item in items if item.get("type") == "ConsentGrant"]
    ids = (entry.get("publicclientapp") for entry in details if isinstance(entry, dict))
    clients = dict.fromkeys(id_ for id_ in ids if _known(id_))
    return [{"id": id_, "name": id_, "type": "PublicClientApp"} for id_ in clients]


def _networks(*details: Any) -> list[dict[str, Any]]:
    """Return the VPNs, proxies and other networks that hide the client."""
    found = {}
    for item in (item for each in details for item in _services(each)):
        operator = values.first(*map(item.get, _OPERATOR_IN))
        hidden = operator or True in (item.get("anonymous"), item.get("isAnonymous"))
        kind = _known(item.get("type")) or ("Anonymizer" if hidden else None)
        if kind:
            found[kind, str(operator)] = {"id": None, "name": operator or kind, "type": kind}
    return list(found.values())


def _services(details: Any) -> list[dict[str, Any]]:
    """Return the services in the details of an address: a list, one, or an object with a list."""
    if isinstance(details, list):
        return values.objects(details)
    if not isinstance(details, dict):
        return []
    return [details, *(item for value in details.values() for item in values.objects(value))]


def _listed(tunnels: Any) -> Any:
    """Return the list in the JSON text that records had before they had details of addresses."""
    if not isinstance(tunnels, str):
        return tunnels
    with suppress(ValueError):
        return json.loads(tunnels)
    return None


def _in_chain(chain: Any, hook_chain: Any) -> list[Any] | None:
    """Return the details of the addresses in a chain, None if there are none."""
    hops = chain or hook_chain
    if not isinstance(hops, list):
        return None
    return [
        hop["ipDetails"] for hop in hops if isinstance(hop, dict) and hop.get("ipDetails")
    ] or None


def _session(external: Any, root: Any) -> Any:
    return _known(external) or _known(root)


SYSTEM_LOG = Stream(
    name="system_log",
    begin=begin,
    pages=pages,
    between=between,
    reached=reached,
    id="uuid",
    time="published",
    # Event hooks have the chain below `client`, and a time of insertion.
    versions=Comparison(
        volatile=("insertionTimestamp",), pushed_as={"client.ipChain": "request.ipChain"}
    ),
    keeps=_KEEPS,
    lag=timedelta(hours=1),
    target_rank={"User": 0, "UserGroup": 1, "ROLE": 2, "AppInstance": 3, "Token": 4},
    columns={
        "action": "eventType",
        "actor_id": Field(_actor_id, "actor.id", "actor.alternateId"),
        "actor_name": Field(_name, "actor.displayName", "actor.alternateId"),
        "actor_email": Field(_email, "actor.alternateId"),
        "actor_type": Field(_actor_type, "actor.type", "actor.id"),
        "targets": Field(
            _as_targets,
            "target",
            "debugContext.debugData.privilegeGranted",
            "debugContext.debugData.privilegeRevoked",
            "debugContext.debugData.grantedScopes",
            "securityContext.ipDetails",
            "debugContext.debugData.tunnels",
            Field(_in_chain, "request.ipChain", "client.ipChain"),
        ),
        "outcome": Field(_outcome, "outcome.result"),
        "outcome_reason": "outcome.reason",
        "source_ip": Field(_first_address, "client.ipAddress", "request.ipChain", "client.ipChain"),
        "user_agent": "client.userAgent.rawUserAgent",
        "city": "client.geographicalContext.city",
        "country": "client.geographicalContext.country",
        "severity": "severity",
        "message": "displayMessage",
        "session_id": Field(
            _session,
            "authenticationContext.externalSessionId",
            "authenticationContext.rootSessionId",
        ),
        "correlation_id": "transaction.id",
    },
)


def _auth(settings: Settings, scope: str = "okta.logs.read") -> httpx.Auth:
    credential = settings.credential
    if isinstance(credential, SecretStr):
        return auth.Header("Authorization", "SSWS", credential)
    client_id, private_key = credential
    token_url = f"{settings.base_url}/oauth2/v1/token"
    key = auth.private_key(private_key, "okta: private_key")
    claims = {"iss": client_id, "sub": client_id, "aud": token_url}
    headers = {"kid": settings.key_id} if settings.key_id else None

    def token_request(now: float) -> httpx.Request:
        form = {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": auth.assertion(key, claims, headers=headers, now=now),
        }
        return httpx.Request("POST", token_url, data=form, headers={"Accept": "application/json"})

    return auth.Token(token_request, partial(_sign_in_advice, scope))


def _sign_in_advice(scope: str, response: httpx.Response) -> str:
    match auth.oauth_error(response):
        case "invalid_client":
            return "client_id, private_key or key_id do not match an active service app: check them"
        case "invalid_scope" | "consent_required":
            return f"grant the service app the scope {scope}"
        case error:
            return error or "check base_url: it must be the organisation's own domain"


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401 if auth.scheme(response.request) == "SSWS":
            return (
                "the API token is invalid, of another organisation, or has expired 30 days after "
                "its last use: create a new API token"
            )
        case 401:
            return (
                "the organisation does not accept the service app's access token: check base_url, "
                "which must be the organisation's own domain, and the app's status"
            )
        case 403 if "/eventHooks" in response.request.url.path:
            return (
                "the credential may not manage event hooks: use a Super Administrator's token, or "
                "grant the scope okta.eventHooks.manage"
            )
        case 403:
            return (
                "the credential may not read the System Log: give its admin the Report "
                "Administrator or Read-only Administrator role; OAuth also needs okta.logs.read"
            )
        case 404:
            return "no Okta organisation found there: correct base_url (not the -admin address)"
    return None


def _pause(response: httpx.Response) -> float:
    """Return the pause that spreads the rest of the limit over the time until it is reset.

    No pause until four fifths of the limit are used.
    """
    try:
        limit = int(response.headers["X-Rate-Limit-Limit"])
        remaining = int(response.headers["X-Rate-Limit-Remaining"])
        seconds = server_seconds(response, float(response.headers["X-Rate-Limit-Reset"]))
    except (KeyError, ValueError, TypeError):
        return 0.0
    return 0.0 if remaining > limit / 5 else seconds / (remaining + 1)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return server_seconds(response, float(response.headers["X-Rate-Limit-Reset"])) + 1
    except (KeyError, ValueError, TypeError):
        return None


_HOOKS = "/api/v1/eventHooks"
_TYPES = Path(__file__).with_name("okta_hooks.txt")


def _challenge(headers: Headers) -> bytes | None:
    given = headers.get("x-okta-verification-challenge")
    return json.dumps({"verification": given}).encode() if given else None


def _pushed(_: Settings, delivery: Delivery) -> list[Records]:
    """Return the pushed records; they differ slightly from polled ones, but their ids match."""
    data = json_records.split_object(json_records.split_object(delivery.body).get("data", b""))
    return [Records(stream="system_log", records=json_records.split_array(data.get("events", b"")))]


def _register(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions, _: datetime
) -> Subscriptions:
    """Create the hook, or update an existing one; then verify and activate it."""
    body = _hook(settings, endpoint)
    found = _subscriptions(settings, client, endpoint, known)
    if found:
        client.put(f"{_HOOKS}/{found[0].id}", json=body)
        hook = found[0].id
    else:
        hook = str(client.post(_HOOKS, json=body).json()["id"])
    client.post(f"{_HOOKS}/{hook}/lifecycle/verify")
    client.post(f"{_HOOKS}/{hook}/lifecycle/activate")
    return _subscriptions(settings, client, endpoint, known)


def _hook(settings: Settings, endpoint: Endpoint) -> dict[str, Any]:
    scheme = {"type": "HEADER", "key": "Authorization", "value": endpoint.secret.get_secret_value()}
    lines = _TYPES.read_text(encoding="utf-8").splitlines()
    types = settings.hook_events or [line for line in lines if not line.startswith("#")]
    return {
        "name": f"auditlake {endpoint.name}",
        "events": {"type": "EVENT_TYPE", "items": list(types)},
        "channel": {
            "type": "HTTP",
            "version": "1.0.0",
            "config": {"uri": endpoint.address, "headers": [], "authScheme": scheme},
        },
    }


def _subscriptions(
    _: Settings, client: httpx.Client, endpoint: Endpoint, _known: Subscriptions
) -> Subscriptions:
    """Return the hooks that call this address."""
    return [
        Subscription(
            stream="system_log",
            id=hook["id"],
            active=hook.get("status") == "ACTIVE" and hook.get("verificationStatus") == "VERIFIED",
            note=f"{hook.get('status')}, {hook.get('verificationStatus')}",
        )
        for hook in answers.objects(client.get(_HOOKS))
        if hook["channel"]["config"]["uri"] == endpoint.address
    ]


def _remove(
    settings: Settings, client: httpx.Client, endpoint: Endpoint, known: Subscriptions
) -> None:
    for hook in _subscriptions(settings, client, endpoint, known):
        # Okta refuses to delete an active hook.
        client.post(f"{_HOOKS}/{hook.id}/lifecycle/deactivate")
        client.delete(f"{_HOOKS}/{hook.id}")


PUSH = Push(
    authentic=webhook_auth.authorised,
    read=_pushed,
    challenge=_challenge,
    subscription_api=SubscriptionApi(register=_register, current=_subscriptions, remove=_remove),
    auth=partial(_auth, scope="okta.eventHooks.manage"),
)

INTEGRATION = Integration(
    kind="okta",
    title="Okta",
    settings=Settings,
    streams=lambda _: (SYSTEM_LOG,),
    auth=_auth,
    request_policy=RequestPolicy(delay_after=_pause, retry_after=_retry_after),
    advice=_advice,
    mapping_version=5,
    tenant=lambda settings, _: tenant.by_address(settings.base_url),
    nothing=_NOTHING,
    docs=Docs(
        credentials="API token, or an API Services app with a public key (`private_key_jwt`)",
        permissions="Report or Read-only Administrator; for the app also scope `okta.logs.read`",
        history="90 days",
        delay="seconds; rarely more",
        push="event hooks (some event types)",
    ),
    push=PUSH,
)
