"""Events of Opsgenie and its successors: their frequencies, and their records in the logs.

The outer shape of a line of Opsgenie's log files is not published. Most lines here have the
envelope of the successors' API, with `details` as an object; some are details alone.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import msgspec

from sandbox.cast import Account, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.service import iso, secret


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doing:
    """The properties that the events of a group share."""

    category: str
    by: Role = "person"
    on: Sort | None = None
    whom: bool = False
    level: str = "Information"


_ALERT = _Doing(category="Alert Actions")
_RAISED = _Doing(category="Alert Actions", by="service", on="app")
_SENT = _Doing(category="Notifications", by="system", whom=True)
_CONFIGURED = _Doing(category="Configuration Changes", by="admin", on="group")
_POLICY = _Doing(category="Configuration Changes", by="admin", on="policy")
_KEY = _Doing(category="Configuration Changes", by="admin", on="token")
_PEOPLE = _Doing(category="User Management", by="admin", whom=True)
_INTEGRATION = _Doing(category="Integrations", by="admin", on="app", level="Warning")
_REQUEST = _Doing(category="API Requests", by="service", on="report")
_BEAT = _Doing(category="Heartbeats", by="system", on="app", level="Error")

_EVENTS: tuple[tuple[_Doing, str, str, float], ...] = (
    # group, action of an alert or "", summary, frequency
    (_RAISED, "Create", "Alert created via API [{thing}]", 8),
    (_ALERT, "Acknowledge", "Alert acknowledged via web", 5),
    (_ALERT, "AddNote", "Alert note added via web", 2),
    (_ALERT, "AddDetails", "Alert details added", 1),
    (_ALERT, "AssignOwnership", "Alert ownership assigned", 1),
    (_ALERT, "Snooze", "Alert snoozed", 0.5),
    (_ALERT, "Close", "Alert closed via web", 5),
    (_SENT, "", "Rule[Alert Created][alert] -> [email] notification to [{whom}] submitted.", 9),
    (_SENT, "", "Rule[Schedule Start][shift] -> [sms] notification to [{whom}] failed.", 1),
    (_CONFIGURED, "", "Schedule rotation [scheduleId: {id}, id: {id2}] added.", 0.8),
    (_CONFIGURED, "", "Schedule [name: {thing}, id: {id}] updated.", 1),
    (_CONFIGURED, "", "Escalation [name: {thing}, id: {id}] deleted.", 0.2),
    (_CONFIGURED, "", "Team [{thing}] updated.", 0.5),
    (_POLICY, "", "Policy [name: {thing}, id: {id}] disabled.", 0.2),
    (_KEY, "", "API key [{thing}] created.", 0.2),
    (_PEOPLE, "", "User [{whom}] added.", 0.3),
    (_PEOPLE, "", "User [{whom}] deleted.", 0.2),
    (_PEOPLE, "", "User role [{whom}] updated.", 0.2),
    (_INTEGRATION, "", "Integration [{thing}] disabled.", 0.2),
    (_REQUEST, "", "API request [{thing}] processed.", 3),
    (_BEAT, "", "Heartbeat [{thing}] expired.", 0.3),
)
_SHOWS: dict[str, tuple[Act, ...]] = {
    "Alert created via API [{thing}]": ("detect_threat",),
    "Policy [name: {thing}, id: {id}] disabled.": ("weaken_policy",),
    "API key [{thing}] created.": ("create_token",),
    "User role [{whom}] updated.": ("grant_admin", "revoke_admin"),
}
_ROWS = {summary: (doing, action) for doing, action, summary, _ in _EVENTS}

_INTEGRATION_ID = str(uuid.UUID(secret("opsgenie/webhook integration")[:32]))

HABITS = [
    Habit(
        what=summary,
        weight=weight,
        by=doing.by,
        on=doing.on,
        whom=doing.whom,
        acts=_SHOWS.get(summary, ()),
    )
    for doing, _, summary, weight in _EVENTS
]


def line(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a line of a log file."""
    doing, action = _ROWS[happening.what]
    details = _details(happening, action, rng)
    if action == "AddDetails":
        return {"createdAt": iso(happening.time), **details}
    owner = {} if action else {"owner": _user(happening.actor)}
    return {**_envelope(happening, doing, rng), **owner, "details": details}


def entry(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return an entry of the successors' logs, whose details are a string."""
    doing, action = _ROWS[happening.what]
    details = msgspec.json.encode(_details(happening, action, rng)).decode()
    return {**_envelope(happening, doing, rng), "details": details}


def _envelope(happening: Happening, doing: _Doing, rng: Random) -> dict[str, Any]:
    thing = _thing(happening)
    names = {
        "thing": thing,
        "whom": _user(happening.whom or happening.actor),
        "id": secret(f"opsgenie/{thing}")[:8],
        "id2": f"{rng.getrandbits(32):08x}",
    }
    return {
        "created": iso(happening.time),
        "category": doing.category,
        "summary": happening.what.format(**names),
        "level": "Error" if happening.suspicious and doing is _RAISED else doing.level,
    }


def _details(happening: Happening, action: str, rng: Random) -> dict[str, Any]:
    """Return the details; a leading _ marks objects, a leading - lists, all else is a string."""
    data_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    if happening.what.startswith("Rule"):
        return {"targetUser": _user(happening.whom or happening.actor)}
    if action == "Create":
        return {"_incomingData": _incoming(happening, data_id), "_result": _result(happening, rng)}
    if action:
        return {
            "action": action,
            "alias": f"{data_id}-{int(happening.time.timestamp() * 1000)}",
            "tinyId": str(rng.randrange(10_000)),
            "source": _user(happening.actor),
            "owner": "",
            "acknowledged": str(action == "Acknowledge").lower(),
            "note": "null",
            "-oldTags": [],
            "eventId": data_id,
            "_parsedData": {"_oldAlert": {"priority": rng.choice(("P1", "P2", "P3"))}},
        }
    return {"user": _user(happening.actor), "_incomingData": _incoming(happening, data_id)}


def _incoming(happening: Happening, data_id: str) -> dict[str, Any]:
    record: dict[str, Any] = {"httpUrl": "/v2/requests", "incomingDataId": data_id}
    if happening.place and happening.device:
        record["_httpHeaders"] = {
            "User-Agent": happening.device.user_agent,
            "X-Forwarded-For": f"{happening.place.ip}, 10.0.0.1",
        }
    return record


def _result(happening: Happening, rng: Random) -> dict[str, Any]:
    name = _thing(happening)
    return {
        "alertAction": "Create",
        "alertId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "alertMessage": f"Suspicious sign-in of {happening.actor.name}"
        if happening.suspicious
        else f"{name}: error rate above 5 %",
        "alertCount": "1",
        "integrationName": name,
        "user": name,
    }


def _thing(happening: Happening) -> str:
    return happening.thing.name if happening.thing else "Security"


def _user(account: Account) -> str:
    return account.email or account.name


def alert_action(record: Any) -> str | None:
    """Return the action on an alert in a line of a log file, or None."""
    match record:
        case {"details": {"_result": {"alertAction": str(action)}}}:
            return action
        case {"details": {"action": str(action)}} | {"action": str(action)}:
            return action
    return None


def alert(record: dict[str, Any]) -> bytes:
    """Return the body of an outgoing webhook about the alert of a line."""
    details = record.get("details", record)
    result = details.get("_result", {})
    time = datetime.fromisoformat(record.get("created") or record["createdAt"])
    milliseconds = int(time.timestamp() * 1000)
    user = result.get("user") or details.get("source", "")
    alert_body = {
        "alertId": result.get("alertId") or details["alias"],
        "message": result.get("alertMessage") or record.get("summary", ""),
        "tags": [],
        "tinyId": details.get("tinyId", "1"),
        "entity": "",
        "alias": details.get("alias", ""),
        "createdAt": milliseconds,
        "updatedAt": milliseconds * 1_000_000,
        "username": user,
        "userId": secret(f"opsgenie/{user}")[:24],
        "source": user,
        "priority": details.get("_parsedData", {}).get("_oldAlert", {}).get("priority", "P3"),
    }
    body = {
        "source": {"name": "", "type": "API" if result else "web"},
        "alert": alert_body,
        "action": alert_action(record),
        "integrationId": _INTEGRATION_ID,
        "integrationName": "auditlake",
        "integrationType": "Webhook",
    }
    return msgspec.json.encode(body)
