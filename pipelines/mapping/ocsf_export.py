"""Convert rows of `events` to OCSF 1.8.0 events without loss.

Consumers need to know only OCSF: actor, targets and source are objects of the event's class. Values
that the class has no attribute for, or that break its rules, are in `unmapped` under the name of
our column. Attributes that the class requires and the record lacks are "Unknown", and listed in
`unmapped.filled`. https://schema.ocsf.io/1.8.0/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import polars as pl

from pipelines.mapping import ocsf

Event = dict[str, Any]
Row = Mapping[str, Any]
Make = Callable[[Row, Sequence[Row]], Any]
"""Takes a row and its targets that have an id or a name; returns an object of the event."""

_UNKNOWN = "Unknown"
_CATEGORIES = {2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}
_STATUS = {"unknown": (0, "Unknown"), "success": (1, "Success"), "failure": (2, "Failure")}
_SEVERITIES = {
    1: ("Informational", {"informational", "information", "info", "debug", "none", "normal"}),
    2: ("Low", {"low", "notice"}),
    3: ("Medium", {"medium", "moderate", "warn", "warning"}),
    4: ("High", {"high", "error"}),
    5: ("Critical", {"critical", "severe"}),
    6: ("Fatal", {"fatal"}),
}
_SEVERITY = {word: (n, name) for n, (name, words) in _SEVERITIES.items() for word in words}
_USER_TYPES = {"user": (1, "User"), "system": (3, "System"), "service": (4, "Service")}

# The schema's own pattern; an address that doesn't match stays in `unmapped`.
_EMAIL = re.compile(r"[a-zA-Z0-9!#$%&'*+-/=?^_`{|}~.]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+")

_METADATA = {
    "uid": "event_uid",
    "original_event_uid": "event_id",
    "event_code": "action",
    "log_provider": "integration",
    "log_name": "stream",
    "sequence": "seq",
    "correlation_uid": "correlation_id",
}
_WITHOUT_SOURCE = {2004, 6002, 6008}


def to_ocsf(events: pl.DataFrame) -> Iterator[Event]:
    """Return each row as an event of its class."""
    exact = events.with_columns(pl.col("time", "ingested_at").dt.epoch("us"))
    return map(_event, exact.iter_rows(named=True))


def _event(row: Row) -> Event:
    aside = _aside(row)
    class_uid, activity_id = row["class_uid"], row["activity_id"]
    severity_id, severity = _SEVERITY.get(row["severity"], (99, "Other"))
    status_id, status = _STATUS[row["outcome"]]
    event = {
        "class_uid": class_uid,
        "class_name": row["activity_type"],
        "category_uid": class_uid // 1000,
        "category_name": _CATEGORIES[class_uid // 1000],
        "activity_id": activity_id,
        "activity_name": row["action_type"],
        "type_uid": class_uid * 100 + activity_id,
        "type_name": f"{row['activity_type']}: {row['action_type']}",
        "time": row["time"] // 1000,
        "severity_id": severity_id if row["severity"] else 0,
        "severity": severity if row["severity"] else _UNKNOWN,
        "status_id": status_id,
        "status": status,
        "status_detail": row["outcome_reason"],
        "message": row["message"],
        "metadata": _metadata(row),
        "actor": _actor(row, aside),
        "src_endpoint": _source(row, aside),
        **_by_class(row, aside),
    }
    _complete(event, aside)
    event["unmapped"] = aside
    return {name: value for name, value in event.items() if value is not None}


def _aside(row: Row) -> Event:
    """Return the values that no class has an attribute for."""
    targets = [{k: v for k, v in t.items() if v is not None} for t in row["targets"] or ()]
    found = {
        "time_us": row["time"] % 1000 or None,
        "ingested_at_us": row["ingested_at"] % 1000 or None,
        "severity": row["severity"],
        "mapping_version": row["mapping_version"],
        "targets": targets or None,
    }
    aside = {name: value for name, value in found.items() if value is not None}
    target = _target(row)
    if target not in targets[:1] and (target or targets):
        aside["target"] = targets.index(target) if target in targets else target
    return aside


def _target(row: Row) -> dict[str, str]:
    found = {key: row[f"target_{key}"] for key in ("id", "name", "type")}
    return {key: value for key, value in found.items() if value is not None}


def _metadata(row: Row) -> Event:
    known = {name: row[ours] for name, ours in _METADATA.items() if row[ours] is not None}
    return {
        "version": ocsf.VERSION,
        "profiles": ["host"],
        "product": {"name": row["kind"]},
        "logged_time": row["ingested_at"] // 1000,
        **known,
    }


def _actor(row: Row, aside: Event) -> Event | None:
    user = {"uid": row["actor_id"], "name": row["actor_name"], **_user_type(row["actor_type"])}
    email = row["actor_email"]
    if email is not None and _EMAIL.fullmatch(email):
        user["email_addr"] = email
        if user["uid"] is None and user["name"] is None:
            user["name"] = email
            aside["filled"] = ["actor.user.name"]
    elif email is not None:
        aside["actor_email"] = email
    actor: Event = {}
    if user["uid"] is not None or user["name"] is not None:
        actor["user"] = {name: value for name, value in user.items() if value is not None}
    elif row["actor_type"] is not None:
        aside["actor_type"] = row["actor_type"]
    if row["session_id"] is not None:
        actor["session"] = {"uid": row["session_id"]}
    return actor or None


def _user_type(ours: str | None) -> Event:
    if ours is None:
        return {}
    number, name = _USER_TYPES.get(ours, (99, ours))
    return {"type_id": number, "type": name}


def _source(row: Row, aside: Event) -> Event | None:
    """Return the source endpoint; a location without an address is not one."""
    place = {name: row[name] for name in ("city", "country") if row[name] is not None}
    ip = row["source_ip"]
    if row["class_uid"] in _WITHOUT_SOURCE or not _is_address(ip):
        aside.update(place if ip is None else {**place, "source_ip": ip})
        return None
    return {"ip": ip, **({"location": place} if place else {})}


@lru_cache(maxsize=65536)
def _is_address(text: str | None) -> bool:
    try:
        return text is not None and str(ipaddress.ip_address(text)) == text and "%" not in text
    except ValueError:
        return False


def _by_class(row: Row, aside: Event) -> Event:
    """Return the objects that are specific to the class."""
    targets = [t for t in row["targets"] or () if _named(t)]
    class_uid, agent = row["class_uid"], row["user_agent"]
    found = {name: make(row, targets) for name, make in _OBJECTS[class_uid].items()}
    if agent is None:
        return found
    if class_uid in _WITHOUT_SOURCE:
        aside["user_agent"] = agent
        return found
    return {**found, "http_request": {"user_agent": agent}}


def _named(target: Row) -> bool:
    return target["id"] is not None or target["name"] is not None


def _first(targets: Sequence[Row], *words: str) -> Row | None:
    """Return the first target whose type contains one of `words`."""
    return next((t for t in targets if any(w in (t["type"] or "").lower() for w in words)), None)


def _entity(target: Row | None) -> Event | None:
    if target is None:
        return None
    found = {"uid": target["id"], "name": target["name"], "type": target["type"]}
    return {name: value for name, value in found.items() if value is not None}


def _all(_: Row, targets: Sequence[Row]) -> list[Event | None] | None:
    return [_entity(target) for target in targets] or None


def _any(_: Row, targets: Sequence[Row]) -> Event | None:
    return _entity(targets[0]) if targets else None


def _of_type(*words: str) -> Make:
    """Make an object of the first target of such a type."""
    return lambda _, targets: _entity(_first(targets, *words))


def _preferably(*words: str) -> Make:
    """Make an object of the first target of such a type, or else of the first target."""
    return lambda row, targets: _entity(_first(targets, *words)) or _any(row, targets)


def _service(row: Row, targets: Sequence[Row]) -> Event:
    """Return the service that was signed in to: the application, or the vendor itself."""
    return _untyped(_first(targets, "app", "service", "resource")) or {"name": row["kind"]}


def _product(_: Row, targets: Sequence[Row]) -> Event | None:
    return _untyped(_first(targets, "app") or (targets[0] if targets else None))


def _untyped(target: Row | None) -> Event | None:
    return _entity({**target, "type": None}) if target else None


def _file(_: Row, targets: Sequence[Row]) -> Event | None:
    """Return the file; OCSF requires name and type. 99 means that `type` is the vendor's word."""
    if not targets:
        return None
    target = targets[0]
    name = target["name"] if target["name"] is not None else target["id"]
    return {**(_entity(target) or {}), "name": name, "type_id": 99 if target["type"] else 0}


def _privileges(row: Row, targets: Sequence[Row]) -> list[str]:
    """Return the privileges granted or revoked: the other targets, else the vendor's action."""
    user = _first(targets, *_PEOPLE)
    names = [t["name"] or t["id"] for t in targets if t is not user]
    return [name for name in names if name] or [row["action"] or _UNKNOWN]


def _finding(row: Row, _: Sequence[Row]) -> Event:
    return {"uid": row["event_uid"], "title": row["message"] or row["action"] or _UNKNOWN}


def _api(row: Row, _: Sequence[Row]) -> Event:
    return {"operation": row["action"] or _UNKNOWN}


_PEOPLE = ("user", "account", "person", "member")
_OBJECTS: dict[int, dict[str, Make]] = {
    2004: {"finding_info": _finding, "resources": _all},
    3001: {"user": _preferably(*_PEOPLE)},
    3002: {"service": _service},
    3003: {"user": _preferably(*_PEOPLE), "privileges": _privileges},
    3004: {"entity": _any},
    3005: {"user": _preferably(*_PEOPLE), "privileges": _privileges},
    3006: {"group": _preferably("group"), "user": _of_type(*_PEOPLE)},
    6001: {"web_resources": _all},
    6002: {"app": _product},
    6003: {"api": _api, "resources": _all},
    6006: {"file": _file},
    6008: {},
}
_REQUIRED: dict[int, tuple[str, ...]] = {
    3001: ("user",),
    3002: ("user",),
    3003: ("user",),
    3004: ("entity",),
    3005: ("user",),
    3006: ("group",),
    6001: ("web_resources",),
    6002: ("app",),
    6003: ("actor", "src_endpoint"),
    6006: ("actor", "src_endpoint", "file"),
}


def _complete(event: Event, aside: Event) -> None:
    """Fill attributes that the class requires: a user with the actor, the rest with "Unknown"."""
    nobody = {"name": _UNKNOWN}
    for name in _REQUIRED.get(event["class_uid"], ()):
        if event.get(name) is not None:
            continue
        known = (event["actor"] or {}).get("user") if name == "user" else None
        event[name] = known or {
            "actor": {"user": nobody},
            "web_resources": [nobody],
            "file": {**nobody, "type_id": 0},
        }.get(name, nobody)
        if not known:
            aside.setdefault("filled", []).append(name)
