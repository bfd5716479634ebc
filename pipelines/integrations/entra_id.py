"""Microsoft Entra ID: sign-ins, directory audits, provisioning and risk detections, from Graph.

Logs are queried in ranges of event time, newest first. Sign-ins and risk detections are published
again when they change (risk, a second factor, an administrator's verdict), so raw keeps every
version.
https://learn.microsoft.com/graph/api/resources/azure-ad-auditlog-overview
https://learn.microsoft.com/graph/api/resources/riskdetection
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from pipelines.errors import NOT_LICENSED, Refused, Unavailable
from pipelines.sdk import (
    answers,
    endings,
    json_records,
    links,
    microsoft,
    values,
    windows,
)
from pipelines.sdk.contract import Columns, Docs, Field, Integration, RequestPolicy, Stream
from pipelines.sdk.endings import Ending
from pipelines.sdk.pages import Cursor, Page, Span
from pipelines.sdk.pagination import Trail
from pipelines.settings import Address

_KEEPS = timedelta(days=30)
_RISKS_KEEP = timedelta(days=90)
_LAG = timedelta(days=1)
_SETTLE = timedelta(minutes=15)
_FIRST = windows.reread_plan(window=_LAG, settle=_SETTLE, lag=_LAG, keeps=_KEEPS)
# The whole history is one query, which resumes at the page where it was interrupted.
_THEN = replace(_FIRST, window=_KEEPS)
_RISK_PLAN = windows.reread_plan(
    window=timedelta(days=7), settle=_SETTLE, lag=_LAG, keeps=_RISKS_KEEP
)
_NONE = timedelta(0)
# Without it, Graph reports newer enum members as unknownFutureValue.
_HEADERS = {"Prefer": "include-unknown-enum-members"}

_GRAPH = "https://graph.microsoft.com"
_LOGIN = "https://login.microsoftonline.com"
_LOGINS = {
    _GRAPH: _LOGIN,
    "https://graph.microsoft.us": "https://login.microsoftonline.us",
    "https://dod-graph.microsoft.us": "https://login.microsoftonline.us",
    "https://microsoftgraph.chinacloudapi.cn": "https://login.chinacloudapi.cn",
}


class Settings(microsoft.Settings):
    logins = _LOGINS
    kind: str = "entra_id"
    base_url: Address = _GRAPH
    authority_url: Address = microsoft.authority_url(_LOGINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """The query for a log."""

    path: str
    time: str
    also: str = ""
    outside: timedelta | None = None
    """How far to widen the range where the service has only exclusive bounds."""
    size: int | None = 1000
    """None: the service's default page size, where its maximum is not known."""
    sorts: bool = False
    """Whether to ask for the order, newest first, which is not the service's own."""

    def url(self, since: datetime, until: datetime) -> str:
        above, below, wider = ("gt", "lt", self.outside) if self.outside else ("ge", "le", _NONE)
        bounds = (
            f"{self.time} {above} {_text(since - wider)} and "
            f"{self.time} {below} {_text(until + wider)}"
        )
        query = {"$filter": bounds + self.also}
        query |= {"$orderby": f"{self.time} desc"} if self.sorts else {}
        query |= {"$top": str(self.size)} if self.size else {}
        return f"{self.path}?{urlencode(query, quote_via=quote, safe='$')}"


def _read(query: _Query, client: httpx.Client, span: Span) -> Iterator[Sequence[bytes]]:
    """Yield the records of a span, newest first, one page at a time."""
    until, reached = span.until, span.until
    link: str | None = query.url(span.since, until)
    trail = Trail(f"entra_id {query.path}")
    while link:
        try:
            response = client.get(link, headers=_HEADERS)
        except Refused as error:
            if error.status != httpx.codes.BAD_REQUEST or reached >= until:
                raise
            # The page link has expired: query again from the oldest record so far.
            until, link = reached, query.url(span.since, reached)
            trail = Trail(f"entra_id {query.path}")
            continue
        answer = _answer(response, query.path)
        found = json_records.split_array(answer["value"])
        reached = _oldest(found, query.time) or reached
        following = json_records.load(answer.get("@odata.nextLink", b"null"))
        link = links.own_link(client, following) if following else None
        yield found
        if link:
            trail.follow(link, found)


def _answer(response: httpx.Response, path: str) -> dict[str, bytes]:
    """Return the members of a response. Raises Unavailable if it has no list of records."""
    # Graph may answer 200 without a list, which does not mean that there are no records.
    with suppress(json_records.MalformedJson):
        answer = json_records.split_object(response.content)
        if answer.get("value", b"").startswith(b"["):
            return answer
    raise Unavailable(
        f"{path} answered 200 without records{answers.quoted(response)}; the next round retries"
    )


def _resumable(
    query: _Query, client: httpx.Client, cursor: Cursor, now: datetime
) -> Iterator[Page]:
    """Yield the windows' pages; each page of history moves the cursor to its oldest record."""
    for page in windows.pages(_THEN, partial(_read, query))(client, cursor, now):
        yield _shortened(page, query.time) if page.records else page


def _shortened(page: Page, time: str) -> Page:
    place = json.loads(page.cursor)
    oldest = _oldest(page.records, time)
    if not (oldest and place["history"]) or place["rest"]:
        return page
    since, until = map(datetime.fromisoformat, place["history"])
    if not since < oldest < until:
        return page
    place["history"] = [since.isoformat(), oldest.isoformat()]
    covers = Span(since=oldest, until=until)
    return replace(page, cursor=json.dumps(place, separators=(",", ":")), covers=covers)


def _oldest(found: Sequence[bytes], time: str) -> datetime | None:
    """Return the exclusive end of the range before these records; None unless newest first."""
    try:
        first, last = (_time(json_records.load(record)[time]) for record in (found[0], found[-1]))
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return last + timedelta(milliseconds=1) if last <= first else None


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


_NOTHING = values.NOTHING | {"00000000-0000-0000-0000-000000000000"}
_OUTCOMES = {"success": "success", "failure": "failure", "timeout": "failure"}
_RISKS = frozenset({"low", "medium", "high"})
_NO_REASON = values.NOTHING | {"Other.", "None"}
_NO_DETAIL = values.NOTHING | {"none", "hidden", "unknownFutureValue"}
_ADDRESS_KEYS = frozenset(
    {"ipaddr", "ipaddress", "ip", "clientip", "clientipaddr", "clientipaddress", "useripaddress",
     "sourceip", "sourceipaddress", "calleripaddress"}
)  # fmt: skip
_AGENT_KEYS = frozenset({"useragent"})
_INVITED_KEYS = frozenset({"inviteduseremailaddress"})
_IN_KEYS = str.maketrans("", "", " -_.")
_NOT_AGENTIC = frozenset({None, "", "notAgentic", "unknownFutureValue"})
_AGENTS_OWN_USER = "agentIDuser"
_ROLE_KEYS = frozenset({"rolename", "roledefinitionname", "roledisplayname"})
_RANK = {"User": 0, "Worker": 0, "Group": 1, "Role": 2, "Application": 2, "ServicePrincipal": 3,
         "Policy": 3, "Device": 4, "Resource": 5, "System": 6, "Directory": 8, "Request": 9,
         "Other": 9, "N/A": 9}  # fmt: skip


def _known(value: Any) -> str | None:
    return value if isinstance(value, str) and value not in _NOTHING else None


def _first(*given: Any) -> str | None:
    for value in given:
        if isinstance(value, str) and value not in _NOTHING:
            return value
    return None


def _initiator_type(user: Any, upn: Any, app: Any, kind: Any, performer: Any) -> str | None:
    if _known(user) or _known(upn):
        return "user" if _is_no_agent(kind) else "application"
    return "application" if app or _performers(performer) else "system"


def _is_no_agent(kind: Any) -> bool:
    return not isinstance(kind, str) or kind in _NOT_AGENTIC


def _initiator_id(user: Any, principal: Any, app: Any, performer: Any) -> str | None:
    found = _first(user, principal, app)
    return found or next((p["id"] for p in _performers(performer)), None)


def _initiator_name(*given: Any) -> str | None:
    *known, performer = given
    return _first(*known) or next((p["name"] for p in _performers(performer)), None)


def _performers(performer: Any, otherwise: str = "Agent") -> list[dict[str, Any]]:
    """Return the AI agent or application that acted on behalf of the initiator.

    `otherwise` is the type of one without an `agentType`.
    """
    if not isinstance(performer, dict):
        return []
    parts = [performer, *(performer.get(key) for key in ("user", "app"))]
    found = [_agent_target(part, otherwise) for part in parts if isinstance(part, dict)]
    return [target for target in found if target["id"] or target["name"]]


def _agent_target(part: dict[str, Any], otherwise: str) -> dict[str, Any]:
    kind = part.get("agentType")
    return {
        "id": _first(*map(part.get, ("id", "servicePrincipalId", "appId"))),
        "name": _first(
            *map(part.get, ("displayName", "userPrincipalName", "servicePrincipalName",
                            "appDisplayName"))
        ),
        "type": ("Application" if _is_no_agent(kind) else "Agent") if kind else otherwise,
    }  # fmt: skip


def _result(result: Any) -> str:
    return _OUTCOMES.get(result, "unknown")


def _result_reason(reason: Any) -> Any:
    return None if reason in _NO_REASON else reason


def _detail(details: Any, keys: frozenset[str]) -> Any:
    for item in values.objects(details):
        if _bare(str(item.get("key"))) in keys and (value := values.known(item.get("value"))):
            return value
    return None


@lru_cache(maxsize=4096)
def _bare(key: str) -> str:
    """Return a key that services spell differently, such as "IP Address", as `ipaddress`."""
    return key.lower().translate(_IN_KEYS)


def _initiator_address(address: Any, details: Any) -> Any:
    return values.known(address) or _detail(details, _ADDRESS_KEYS)


def _agent(agent: Any, details: Any) -> Any:
    return values.known(agent) or _detail(details, _AGENT_KEYS)


def _resources(  # noqa: PLR0917 one per path
    resources: Any, performer: Any, action: Any, details: Any, user: Any, app: Any
) -> list[dict[str, Any]]:
    """Return the targets, with the names that only the changes and the details contain.

    An application that acts for a user is one of them.
    """
    given = values.objects(resources)
    found = [
        {
            "id": _known(item.get("id")),
            "name": _first(item.get("displayName"), item.get("userPrincipalName")),
            "type": item.get("type"),
        }
        for item in given
    ]
    for item in given:
        if properties := item.get("modifiedProperties"):
            changed = microsoft.changes(properties, "displayName", "newValue", "oldValue")
            if changed:
                microsoft.name_by_changes(found, changed)
    if details and isinstance(action, str):
        if "nvite" in action:
            found += _invited(found, _detail(details, _INVITED_KEYS))
        elif "role" in action:
            found += _role(found, _detail(details, _ROLE_KEYS))
    if app and _known(user):
        found += _performers(app, "Application")
    return found + _performers(performer) if performer else found


def _role(found: list[dict[str, Any]], name: Any) -> list[dict[str, Any]]:
    if not isinstance(name, str) or any(target["type"] == "Role" for target in found):
        return []
    return [{"id": None, "name": name, "type": "Role"}]


def _invited(found: list[dict[str, Any]], email: Any) -> list[dict[str, Any]]:
    if not isinstance(email, str) or any(t["name"] == email for t in found):
        return []
    return [{"id": None, "name": email, "type": "User"}]


_DIRECTORY_AUDITS: Columns = {
    "action": "activityDisplayName",
    "actor_id": Field(
        _initiator_id,
        "initiatedBy.user.id",
        "initiatedBy.app.servicePrincipalId",
        "initiatedBy.app.appId",
        "performedBy",
    ),
    "actor_name": Field(
        _initiator_name,
        "initiatedBy.user.displayName",
        "initiatedBy.user.userPrincipalName",
        "initiatedBy.app.displayName",
        "initiatedBy.app.servicePrincipalName",
        "performedBy",
    ),
    "actor_email": Field(microsoft.email, "initiatedBy.user.userPrincipalName"),
    "actor_type": Field(
        _initiator_type,
        "initiatedBy.user.id",
        "initiatedBy.user.userPrincipalName",
        "initiatedBy.app",
        "initiatedBy.user.agentType",
        "performedBy",
    ),
    "targets": Field(
        _resources,
        "targetResources",
        "performedBy",
        "activityDisplayName",
        "additionalDetails",
        "initiatedBy.user.id",
        "initiatedBy.app",
    ),
    "outcome": Field(_result, "result"),
    "outcome_reason": Field(_result_reason, "resultReason"),
    "source_ip": Field(_initiator_address, "initiatedBy.user.ipAddress", "additionalDetails"),
    "user_agent": Field(_agent, "userAgent", "additionalDetails"),
    "correlation_id": "correlationId",
}


def _sign_in(_: Any) -> str:
    """Return the operation name in Azure Monitor, since the records have no action."""
    return "Sign-in activity"


def _who_type(user: Any, upn: Any, principal: Any, kinds: Any, agent: Any) -> str | None:
    if _known(user) or _known(upn):
        return "application" if agent and _is_agents_own_user(agent) else "user"
    if kinds and "managedIdentity" in kinds:
        return "service"
    return "application" if principal or (kinds and "servicePrincipal" in kinds) else None


def _is_agents_own_user(agent: Any) -> bool:
    return isinstance(agent, dict) and _AGENTS_OWN_USER in (
        agent.get("agentType"),
        agent.get("agentSubjectType"),
    )


def _acts_for_user(agent: Any) -> bool:
    kind = agent.get("agentType") if isinstance(agent, dict) else None
    return not _is_no_agent(kind) and kind != _AGENTS_OWN_USER


def _who_id(user: Any, upn: Any, principal: Any, app: Any) -> str | None:
    return _known(user) or (None if _known(upn) else _first(principal, app))


def _who(user: Any, upn: Any, user_id: Any, principal: Any, app: Any) -> str | None:
    return _first(user, upn) or (None if _known(user_id) else _first(principal, app))


def _sign_in_outcome(code: Any) -> str:
    if code is None:
        return "unknown"
    if int(code) == 0:
        return "success"
    return "unknown" if microsoft.is_interrupt(code) else "failure"


def _reason(failure: Any, more: Any, code: Any) -> Any:
    if failure and failure not in _NO_REASON:
        return failure
    if more and more not in _NO_REASON:
        return more
    return f"error {code}" if code and str(code) != "0" else None


def _risk(level: Any) -> str | None:
    return level if level in _RISKS else None


def _visited(  # noqa: PLR0917 one per path
    user: Any,
    app: Any,
    app_name: Any,
    resource: Any,
    resource_name: Any,
    agent: Any,
    principal: Any,
    principal_name: Any,
) -> list[dict[str, Any]]:
    """Return the resource and, for users, the application and the AI agent acting for them."""
    to = {"id": _known(resource), "name": resource_name, "type": "Resource"}
    # Without a user, the application is the actor and not a target.
    if not _known(user):
        return [to]
    found = [{"id": _known(app), "name": app_name, "type": "Application"}, to]
    if agent and _acts_for_user(agent):
        id_, name = _first(principal, agent.get("parentAppId")), _first(principal_name, app_name)
        found.append({"id": id_, "name": name, "type": "Agent"})
    return found


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
    "actor_email": Field(microsoft.email, "userPrincipalName"),
    "actor_type": Field(
        _who_type, "userId", "userPrincipalName", "servicePrincipalId", "signInEventTypes", "agent"
    ),
    "targets": Field(
        _visited,
        "userId",
        "appId",
        "appDisplayName",
        "resourceId",
        "resourceDisplayName",
        "agent",
        "servicePrincipalId",
        "servicePrincipalName",
    ),
    "outcome": Field(_sign_in_outcome, "status.errorCode"),
    "outcome_reason": Field(
        _reason, "status.failureReason", "status.additionalDetails", "status.errorCode"
    ),
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
    """Return the targets; a new identity has no name yet, so it takes that of its source."""
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
    found = (step.get("description") for step in reversed(values.objects(steps)))
    return next(filter(None, found), None)


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


def _risk_reason(detail: Any) -> str | None:
    return None if detail in _NO_DETAIL else detail


def _at_risk(user: Any, name: Any, upn: Any) -> list[dict[str, Any]]:
    return [{"id": _known(user), "name": _first(name, upn), "type": "User"}]


def _risk_agent(info: Any) -> str | None:
    """Return the user agent from the additional information, which is JSON in a text."""
    with suppress(ValueError, TypeError):
        for item in values.objects(json_records.load(info.encode()) if info else None):
            if str(item.get("Key")).lower() == "useragent":
                return _known(item.get("Value"))
    return None


def _risk_message(kind: Any, level: Any, state: Any) -> str:
    """Return a sentence: the names of risks read badly as acts of a user."""
    known = [text for text in (level, state) if text not in _NO_DETAIL]
    return ", ".join([f"identity protection found {kind}", *known])


_RISK_DETECTIONS: Columns = {
    "action": "riskEventType",
    "actor_id": "userId",
    "actor_name": Field(_first, "userDisplayName", "userPrincipalName"),
    "actor_email": Field(microsoft.email, "userPrincipalName"),
    "actor_type": Field(lambda _: "user", "id"),
    "targets": Field(_at_risk, "userId", "userDisplayName", "userPrincipalName"),
    "outcome_reason": Field(_risk_reason, "riskDetail"),
    "source_ip": "ipAddress",
    "user_agent": Field(_risk_agent, "additionalInfo"),
    "city": "location.city",
    "country": "location.countryOrRegion",
    "severity": Field(_risk, "riskLevel"),
    "message": Field(_risk_message, "riskEventType", "riskLevel", "riskState"),
    "correlation_id": "correlationId",
}

_DETECTED = _Query(
    path="/v1.0/identityProtection/riskDetections",
    time="detectedDateTime",
    size=500,
    sorts=True,
)
# Only gt is known to work for this time.
_UPDATED = replace(_DETECTED, time="lastUpdatedDateTime", outside=timedelta(seconds=1))


def _read_risks(client: httpx.Client, span: Span) -> Iterator[Sequence[bytes]]:
    """Yield the detections of a span, then older ones that were updated in it."""
    yield from _read(_DETECTED, client, span)
    yield from _read(_UPDATED, client, span)


def _stream(name: str, query: _Query, columns: Columns, *, changes: bool = False) -> Stream:
    return Stream(
        name=name,
        begin=windows.begin(_FIRST),
        pages=partial(_resumable, query),
        between=windows.between(_THEN),
        reached=windows.reached,
        learn=windows.learn(_THEN),
        id="id",
        time=query.time,
        columns=columns,
        target_rank=_RANK,
        latest_of="id" if changes else None,
        keeps=_KEEPS,
        lag=_LAG,
    )


def _signed_in(name: str, event_type: str) -> Stream:
    """Return the stream of one kind of sign-ins."""
    # Only the beta API filters by kind; v1.0 returns interactive sign-ins only.
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
        # Only gt and lt are documented for it, so the range is widened by a second.
        _Query(
            path="/v1.0/auditLogs/provisioning",
            time="activityDateTime",
            outside=timedelta(seconds=1),
            size=None,
        ),
        _PROVISIONING,
    ),
    Stream(
        name="risk_detections",
        begin=windows.begin(_RISK_PLAN),
        pages=windows.pages(_RISK_PLAN, _read_risks),
        between=windows.between(_RISK_PLAN),
        reached=windows.reached,
        learn=windows.learn(_RISK_PLAN),
        id="id",
        time=_DETECTED.time,
        columns=_RISK_DETECTIONS,
        classified_as="riskState",
        target_rank=_RANK,
        latest_of="id",
        keeps=_RISKS_KEEP,
        lag=_LAG,
    ),
)


def _advice(response: httpx.Response) -> str | None:
    match response.status_code:
        case 401:
            return (
                "Graph does not accept the token: base_url and authority_url must belong to the "
                "same cloud, and the app registration must still exist"
            )
        case 403:
            return _unlicensed(response.content) or (
                f"grant the app the application {_permission(response.request.url.path)}, and "
                "give admin consent"
            )
        case 404:
            return "Microsoft Graph not found there: correct base_url"
    return None


def _unlicensed(content: bytes) -> str | None:
    if b"NonPremium" in content:
        return (
            f"{NOT_LICENSED}: sign-in logs need Microsoft Entra ID P1 or P2: license the tenant, "
            "or list only the other streams in `streams`; licensed tenants get this error now and "
            "then"
        )
    if b"not licensed" in content.lower():
        return (
            f"{NOT_LICENSED}: risk detections need Microsoft Entra ID P2 (P1 shows some): license "
            "the tenant, or list only the other streams in `streams`"
        )
    return None


def _permission(path: str) -> str:
    if "identityProtection" in path:
        return "permission IdentityRiskEvent.Read.All"
    if "provisioning" in path:
        return "permission ProvisioningLog.Read.All"
    return "permissions AuditLog.Read.All and Directory.Read.All"


def _endings(settings: Settings, client: httpx.Client) -> list[Ending]:
    """Return the end of the certificate, or of the client secret that begins like ours."""
    if settings.certificate:
        return endings.of_certificate(settings.certificate, microsoft.NEW_CREDENTIAL)
    path = f"/v1.0/applications(appId='{settings.client_id}')"
    response = client.get(path, params={"$select": "passwordCredentials"})
    secrets = values.objects(answers.members(response.content).get("passwordCredentials"))
    own = settings.client_secret.get_secret_value() if settings.client_secret else ""
    alike = [each for each in secrets if each.get("hint") == own[:3]]
    if len(alike) != 1:
        return []
    return endings.reported(
        "the client secret", alike[0].get("endDateTime"), microsoft.NEW_CREDENTIAL
    )


INTEGRATION = Integration(
    kind="entra_id",
    title="Microsoft Entra ID",
    settings=Settings,
    streams=lambda _: STREAMS,
    auth=microsoft.sign_in,
    # Reports are throttled in windows of ten seconds, at times without a Retry-After.
    request_policy=RequestPolicy(rate=(5, 10.0), first_delay=10.0),
    advice=_advice,
    mapping_version=5,
    tenant=microsoft.tenant,
    reported_endings=_endings,
    nothing=_NOTHING,
    docs=Docs(
        credentials="app registration with a client secret, or a certificate with its private key",
        permissions=(
            "application permissions `AuditLog.Read.All`, `Directory.Read.All`, "
            "`ProvisioningLog.Read.All` and `IdentityRiskEvent.Read.All`, admin consent; sign-ins "
            "and risk detections need Entra ID P1 or P2"
        ),
        history="30 days; risk detections 90 with P2; 7 without P1 or P2",
        delay="2 to 15 minutes; sign-ins and risk detections may change later",
        push="none through Graph",
    ),
)
