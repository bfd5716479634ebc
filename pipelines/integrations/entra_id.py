"""Microsoft Entra ID: sign-ins of four kinds, directory audits and provisioning, by Graph.

Logs are asked for by event time, newest first, an oldest and a newest time to a question. Sign-ins
are published again when they change (risk, a second factor), so raw keeps every version.
https://learn.microsoft.com/graph/api/resources/azure-ad-auditlog-overview
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
from pydantic import Field as Setting
from pydantic import model_validator

from pipelines.errors import Refused, TooSlow, Unavailable
from pipelines.sdk import auth, json_records, links, windows
from pipelines.sdk.contract import Columns, Field, Guide, Integration, Manners, Stream
from pipelines.sdk.pages import Cursor, Page, Span
from pipelines.settings import Address, IntegrationSettings, Secret

_KEEPS = timedelta(days=30)
_LAG = timedelta(days=1)
_SETTLE = timedelta(minutes=15)
_FIRST = windows.ladder(window=_LAG, settle=_SETTLE, lag=_LAG, keeps=_KEEPS)
# All of the history is one question, which goes on at the page where it was interrupted.
_THEN = replace(_FIRST, window=_KEEPS)
_NONE = timedelta(0)
_LEAST = timedelta(hours=1)
_PARTS = 8
_ASKING = {"Prefer": "include-unknown-enum-members"}

_GRAPH = "https://graph.microsoft.com"
_LOGIN = "https://login.microsoftonline.com"
_NATIONAL = {
    "https://graph.microsoft.us": "https://login.microsoftonline.us",
    "https://dod-graph.microsoft.us": "https://login.microsoftonline.us",
    "https://microsoftgraph.chinacloudapi.cn": "https://login.chinacloudapi.cn",
}


class Settings(IntegrationSettings):
    kind: str = "entra_id"
    base_url: Address = _GRAPH
    authority_url: Address = Setting(
        default_factory=lambda given: _NATIONAL.get(given.get("base_url", ""), _LOGIN)
    )
    tenant_id: str
    client_id: str
    client_secret: Secret | None = None
    certificate: Secret | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if not (self.client_secret or self.certificate):
            raise ValueError("not configured: set client_secret or certificate")
        return self


def _auth(settings: Settings) -> httpx.Auth:
    graph = settings.base_url if settings.base_url in _NATIONAL else _GRAPH
    return auth.microsoft(
        authority_url=settings.authority_url,
        tenant_id=settings.tenant_id,
        client_id=settings.client_id,
        scope=f"{graph}/.default",
        client_secret=settings.client_secret,
        certificate=settings.certificate,
        where="entra_id: certificate",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """How a log is asked for."""

    path: str
    time: str
    also: str = ""
    outside: timedelta | None = None
    """Where the bounds themselves cannot be asked for: how far outside to ask."""
    size: int | None = 1000
    """None: the service's own page size, where its greatest is not known."""

    def url(self, since: datetime, until: datetime) -> str:
        least, greatest, more = ("gt", "lt", self.outside) if self.outside else ("ge", "le", _NONE)
        bounds = (
            f"{self.time} {least} {_text(since - more)} and "
            f"{self.time} {greatest} {_text(until + more)}"
        )
        query = {"$filter": bounds + self.also} | ({"$top": str(self.size)} if self.size else {})
        return f"{self.path}?{urlencode(query, quote_via=quote, safe='$')}"


def _read(query: _Query, client: httpx.Client, span: Span) -> Iterator[Sequence[bytes]]:
    """A span to its beginning; a page link that is refused is replaced by a question anew.

    What the service is too slow for is asked in parts, as Microsoft advises.
    """
    until, reached = span.until, span.until
    link: str | None = query.url(span.since, until)
    while link:
        try:
            response = client.get(link, headers=_ASKING)
        except Refused as error:
            if error.status != httpx.codes.BAD_REQUEST or reached >= until:
                raise
            until, link = reached, query.url(span.since, reached)
            continue
        except TooSlow:
            if reached - span.since <= _LEAST:
                raise
            for part in _parts(Span(since=span.since, until=reached)):
                yield from _read(query, client, part)
            return
        answer = _answer(response, query.path)
        found = json_records.elements(answer["value"])
        reached = _oldest(found, query.time) or reached
        following = json_records.load(answer.get("@odata.nextLink", b"null"))
        link = links.own_link(client, following) if following else None
        yield found


def _parts(span: Span) -> Iterator[Span]:
    """The newest first."""
    step = (span.until - span.since) / _PARTS
    until = span.until
    for number in range(1, _PARTS + 1):
        since = span.since if number == _PARTS else span.until - step * number
        yield Span(since=since, until=until)
        until = since


def _answer(response: httpx.Response, path: str) -> dict[str, bytes]:
    """An answer without a list does not say that there is nothing. Raises Unavailable."""
    with suppress(json_records.Malformed):
        answer = json_records.members(response.content)
        if answer.get("value", b"").startswith(b"["):
            return answer
    raise Unavailable(f"{path} answered 200 without records; will be asked again")


def _resumable(
    query: _Query, client: httpx.Client, cursor: Cursor, now: datetime
) -> Iterator[Page]:
    """The windows' pages; a page of history moves its end to its oldest record."""
    for page in windows.pages(_THEN, partial(_read, query))(client, cursor, now):
        yield _shortened(page, query.time) if page.records else page


def _shortened(page: Page, time: str) -> Page:
    place = json.loads(page.cursor)
    oldest = _oldest(page.records, time)
    if not (oldest and place["history"]):
        return page
    since, until = map(datetime.fromisoformat, place["history"])
    if not since < oldest < until:
        return page
    place["history"] = [since.isoformat(), oldest.isoformat()]
    covers = Span(since=oldest, until=until)
    return replace(page, cursor=json.dumps(place, separators=(",", ":")), covers=covers)


def _oldest(found: Sequence[bytes], time: str) -> datetime | None:
    """The time of the last of some records, and a bit more; None unless it is the least."""
    try:
        first, last = (_time(json_records.load(record)[time]) for record in (found[0], found[-1]))
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return last + timedelta(milliseconds=1) if last <= first else None


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


_NOBODY = "00000000-0000-0000-0000-000000000000"
_OUTCOMES = {"success": "success", "failure": "failure", "timeout": "failure"}
# What ends such a sign-in is another one: more proof, a password change or a consent was asked for.
_INTERRUPTS = frozenset(
    {16000, 50058, 50072, 50074, 50076, 50079, 50097, 50125, 50127, 50129, 50140, 51006, 65001}
)
_RISKS = frozenset({"low", "medium", "high"})
_SAYS_NOTHING = frozenset({"Other.", "None", ""})
_ADDRESS_KEYS = frozenset({"ipaddr", "ipaddress", "ip address", "client ip"})
_AGENT_KEYS = frozenset({"user-agent"})
_RANK = {"User": 0, "Worker": 0, "Group": 1, "Role": 2, "Application": 2, "ServicePrincipal": 3,
         "Policy": 3, "Device": 4, "Resource": 5, "System": 6, "Directory": 8, "Request": 9,
         "Other": 9, "N/A": 9}  # fmt: skip


def _known(value: Any) -> str | None:
    return value if isinstance(value, str) and value and value != _NOBODY else None


def _first(*values: Any) -> str | None:
    for value in values:
        if isinstance(value, str) and value and value != _NOBODY:
            return value
    return None


def _email(upn: Any) -> str | None:
    """A guest's is in the name: ann_fabrikam.example#EXT#@contoso.onmicrosoft.com."""
    if not isinstance(upn, str) or "@" not in upn:
        return None
    home, guest, _ = upn.partition("#EXT#")
    if not guest:
        return upn
    name, _, domain = home.rpartition("_")
    return f"{name}@{domain}" if name else upn


def _initiator_type(user: Any, upn: Any, app: Any) -> str | None:
    if _known(user) or upn:
        return "user"
    return "application" if app else "system"


def _result(result: Any) -> str:
    return _OUTCOMES.get(result, "unknown")


def _detail(details: Any, keys: frozenset[str]) -> Any:
    for item in details or ():
        if str(item.get("key")).lower() in keys and item.get("value"):
            return item["value"]
    return None


def _initiator_address(address: Any, details: Any) -> Any:
    return address or _detail(details, _ADDRESS_KEYS)


def _agent(agent: Any, details: Any) -> Any:
    return agent or _detail(details, _AGENT_KEYS)


def _resources(resources: Any) -> list[dict[str, Any]]:
    return [
        {
            "id": _known(item.get("id")),
            "name": item.get("displayName") or item.get("userPrincipalName"),
            "type": item.get("type"),
        }
        for item in resources or ()
    ]


_DIRECTORY_AUDITS: Columns = {
    "action": "activityDisplayName",
    "actor_id": Field(
        _first,
        "initiatedBy.user.id",
        "initiatedBy.app.servicePrincipalId",
        "initiatedBy.app.appId",
    ),
    "actor_name": Field(
        _first,
        "initiatedBy.user.displayName",
        "initiatedBy.user.userPrincipalName",
        "initiatedBy.app.displayName",
        "initiatedBy.app.servicePrincipalName",
    ),
    "actor_email": Field(_email, "initiatedBy.user.userPrincipalName"),
    "actor_type": Field(
        _initiator_type,
        "initiatedBy.user.id",
        "initiatedBy.user.userPrincipalName",
        "initiatedBy.app",
    ),
    "targets": Field(_resources, "targetResources"),
    "outcome": Field(_result, "result"),
    "outcome_reason": "resultReason",
    "source_ip": Field(_initiator_address, "initiatedBy.user.ipAddress", "additionalDetails"),
    "user_agent": Field(_agent, "userAgent", "additionalDetails"),
    "correlation_id": "correlationId",
}


def _sign_in(_: Any) -> str:
    """The records have no name for what they all tell."""
    return "Sign-in activity"


def _who_type(user: Any, upn: Any, principal: Any, kinds: Any) -> str | None:
    if _known(user) or upn:
        return "user"
    if kinds and "managedIdentity" in kinds:
        return "service"
    return "application" if principal or (kinds and "servicePrincipal" in kinds) else None


def _who_id(user: Any, upn: Any, principal: Any, app: Any) -> str | None:
    return _known(user) or (None if upn else _first(principal, app))


def _who(user: Any, upn: Any, user_id: Any, principal: Any, app: Any) -> str | None:
    return _first(user, upn) or (None if _known(user_id) else _first(principal, app))


def _sign_in_outcome(code: Any) -> str:
    if code is None:
        return "unknown"
    number = int(code)
    if number == 0:
        return "success"
    return "unknown" if number in _INTERRUPTS else "failure"


def _reason(failure: Any, more: Any) -> Any:
    return more if failure in _SAYS_NOTHING or failure is None else failure


def _risk(level: Any) -> str | None:
    return level if level in _RISKS else None


def _visited(
    user: Any, app: Any, app_name: Any, resource: Any, resource_name: Any
) -> list[dict[str, Any]]:
    """An application is what its user goes to; a workload is an application itself."""
    to = {"id": _known(resource), "name": resource_name, "type": "Resource"}
    if not _known(user):
        return [to]
    return [{"id": _known(app), "name": app_name, "type": "Application"}, to]


_SIGN_INS: Columns = {
    "action": Field(_sign_in, "id"),
    "actor_id": Field(_who_id, "userId", "userPrincipalName", "servicePrincipalId", "appId"),
    "actor_name": Field(
        _who,
        "userDisplayName",
        "userPrincipalName",
        "userId",
        "servicePrincipalName",
        "appDisplayName",
    ),
    "actor_email": Field(_email, "userPrincipalName"),
    "actor_type": Field(
        _who_type, "userId", "userPrincipalName", "servicePrincipalId", "signInEventTypes"
    ),
    "targets": Field(
        _visited, "userId", "appId", "appDisplayName", "resourceId", "resourceDisplayName"
    ),
    "outcome": Field(_sign_in_outcome, "status.errorCode"),
    "outcome_reason": Field(_reason, "status.failureReason", "status.additionalDetails"),
    "source_ip": "ipAddress",
    "user_agent": "userAgent",
    "city": "location.city",
    "country": "location.countryOrRegion",
    "severity": Field(_risk, "riskLevelDuringSignIn"),
    "session_id": "sessionId",
    "correlation_id": "correlationId",
}

_INITIATORS = {"user": "user", "application": "application", "system": "system"}


def _started_by(kind: Any, spelled_otherwise: Any) -> str | None:
    return _INITIATORS.get(kind or spelled_otherwise)


def _provisioned(target: Any, source: Any, to: Any, origin: Any) -> list[dict[str, Any]]:
    """A target that has no name yet goes by the source's."""
    name = (target or {}).get("displayName") or (source or {}).get("displayName")
    found = [_identity(target, name), _identity(source, None)]
    return [*found, _system(to), _system(origin)]


def _identity(given: Any, name: Any) -> dict[str, Any]:
    if not given or not (given.get("id") or given.get("displayName")):
        return {}
    kind = str(given.get("identityType") or "").rpartition(":")[2]
    return {"id": given.get("id"), "name": given.get("displayName") or name, "type": kind or None}


def _system(given: Any) -> dict[str, Any]:
    return {
        "id": (given or {}).get("id"),
        "name": (given or {}).get("displayName"),
        "type": "System",
    }


def _provisioning_reason(reason: Any, status: Any, steps: Any) -> Any:
    return reason or (_last_step(steps) if status != "success" else None)


def _last_step(steps: Any) -> Any:
    for step in reversed(steps or ()):
        if step.get("description"):
            return step["description"]
    return None


_PROVISIONING: Columns = {
    "action": "provisioningAction",
    "actor_id": "initiatedBy.id",
    "actor_name": "initiatedBy.displayName",
    "actor_type": Field(_started_by, "initiatedBy.initiatorType", "initiatedBy.initiatingType"),
    "targets": Field(
        _provisioned, "targetIdentity", "sourceIdentity", "targetSystem", "sourceSystem"
    ),
    "outcome": Field(_result, "provisioningStatusInfo.status"),
    "outcome_reason": Field(
        _provisioning_reason,
        "provisioningStatusInfo.errorInformation.reason",
        "provisioningStatusInfo.status",
        "provisioningSteps",
    ),
    "message": Field(_last_step, "provisioningSteps"),
    "correlation_id": "cycleId",
}


def _stream(name: str, query: _Query, columns: Columns, *, changes: bool = False) -> Stream:
    return Stream(
        name=name,
        begin=windows.begin(_FIRST),
        pages=partial(_resumable, query),
        between=windows.between(_THEN),
        learn=windows.learn(_THEN),
        id="id",
        time=query.time,
        columns=columns,
        target_rank=_RANK,
        latest_of="id" if changes else None,
        keeps=_KEEPS,
        lag=_LAG,
        page_size=query.size or 100,
    )


def _signed_in(name: str, event_type: str) -> Stream:
    """Only beta knows kinds of sign-ins; without a kind it gives the interactive ones alone."""
    query = _Query(
        path="/beta/auditLogs/signIns",
        time="createdDateTime",
        also=f" and signInEventTypes/any(t: t eq '{event_type}')",
    )
    return _stream(name, query, _SIGN_INS, changes=True)


STREAMS = (
    _stream(
        "directory_audits",
        _Query(path="/v1.0/auditLogs/directoryAudits", time="activityDateTime"),
        _DIRECTORY_AUDITS,
    ),
    _stream(
        "sign_ins",
        _Query(path="/v1.0/auditLogs/signIns", time="createdDateTime"),
        _SIGN_INS,
        changes=True,
    ),
    _signed_in("non_interactive_sign_ins", "nonInteractiveUser"),
    _signed_in("service_principal_sign_ins", "servicePrincipal"),
    _signed_in("managed_identity_sign_ins", "managedIdentity"),
    _stream(
        "provisioning",
        # Its documentation knows gt and lt alone, so the bounds themselves lie outside.
        _Query(
            path="/v1.0/auditLogs/provisioning",
            time="activityDateTime",
            outside=timedelta(seconds=1),
            size=None,
        ),
        _PROVISIONING,
    ),
)


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return (
                "the token is not for this Graph: base_url and authority_url have to be of the "
                "same cloud, and the app registration must still exist"
            )
        case 403 if b"NonPremium" in response.content:
            return (
                "sign-in logs need Microsoft Entra ID P1 or P2: license the tenant, or name only "
                "the other streams in `streams`; a licensed tenant answers so now and then"
            )
        case 403 if "provisioning" in response.request.url.path:
            return "grant the app the application permission ProvisioningLog.Read.All, and consent"
        case 403:
            return (
                "grant the app the application permissions AuditLog.Read.All and "
                "Directory.Read.All, and give admin consent"
            )
        case 404:
            return "no Microsoft Graph answers there: correct base_url"
    return None


INTEGRATION = Integration(
    kind="entra_id",
    title="Microsoft Entra ID",
    settings=Settings,
    streams=lambda _: STREAMS,
    auth=_auth,
    # Reports are throttled by windows of ten seconds, and may not say how long to wait.
    manners=Manners(rate=(5, 10.0), first_pause=10.0),
    advice=_advice,
    mapping_version=3,
    guide=Guide(
        credentials="app registration with a client secret, or a certificate with its private key",
        permissions=(
            "application permissions `AuditLog.Read.All`, `Directory.Read.All` and "
            "`ProvisioningLog.Read.All`, admin consent; sign-ins need Entra ID P1 or P2"
        ),
        history="30 days; 7 without P1 or P2",
        delay="2 to 15 minutes; sign-ins may change for hours",
        push="none by Graph",
    ),
)
