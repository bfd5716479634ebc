"""An alert as it is stored in the outbox: the facts, before they are put in a receiver's form.

Texts are those of the tables, only cut; `wording` makes them fit to be shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from pipelines.settings.alerts import LEVELS

MOST_SHOWN = 10
"""Findings that an alert describes one by one, and rules that a digest names."""
_MOST_LINES, _MOST_FIELDS, _MOST_TAGS = 200, 30, 50
_LONGEST = 2000
"""Characters of a text that are kept, so that no receiver refuses a message as too large."""
About = Literal["findings", "digest", "health", "test"]


class Match(msgspec.Struct, frozen=True):
    """A field that the rule read, and its value."""

    field: str
    value: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding of an alert."""

    uid: str
    time: datetime
    message: str = ""
    integration: str = ""
    kind: str = ""
    stream: str = ""
    source_ip: str | None = None
    events: int = 1
    matched: tuple[Match, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule was found, in a digest."""

    rule_id: str
    level: str
    title: str
    count: int


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rule of an alert, as its licence demands it to be named."""

    id: str
    author: str | None = None
    url: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    about: About
    level: str
    title: str
    text: str = ""
    """A sentence on the fault and its remedy, of an alert about auditlake itself."""
    entity: str | None = None
    resolved: bool = False
    """Nothing of it holds any more: its findings were withdrawn, or auditlake is well again."""
    since: datetime | None = None
    until: datetime | None = None
    count: int = 1
    """The number of findings."""
    rule: Rule | None = None
    shown: tuple[Shown, ...] = ()
    """The newest findings."""
    lines: tuple[Line, ...] = ()


def dump(alert: Alert) -> str:
    return msgspec.json.encode(alert).decode()


def load(payload: str) -> Alert:
    return msgspec.json.decode(payload, type=Alert)


def severity(level: str) -> int:
    """Return the place of a level in LEVELS; an unknown one is the highest."""
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown(row: Mapping[str, Any]) -> Shown:
    """Return a finding (schemas.FINDINGS) as alerts show it."""
    return Shown(
        uid=row["finding_uid"],
        time=row["time"],
        message=_short(row["message"]) or "",
        integration=row["integration"] or "",
        kind=row["kind"] or "",
        stream=row["stream"] or "",
        source_ip=_short(row["source_ip"]),
        events=row["count"] or 1,
        matched=tuple(
            Match(_short(each["field"]) or "", _short(each["value"]))
            for each in (row["matched"] or ())[:_MOST_FIELDS]
        ),
    )


def opened(row: Mapping[str, Any]) -> Alert:
    """Return the alert about the first finding of a group."""
    return Alert(
        about="findings",
        level=row["level"],
        title=_short(row["title"]) or row["rule_id"],
        entity=_short(row["entity"]),
        since=row["since"] or row["time"],
        until=row["time"],
        rule=Rule(
            id=row["rule_id"],
            author=_short(row["author"]),
            url=_short(row["url"]),
            license=_short(row["license"]),
            tags=tuple(_short(tag) or "" for tag in (row["tags"] or ())[:_MOST_TAGS]),
        ),
        shown=(shown(row),),
    )


def joined(alert: Alert, row: Mapping[str, Any], count: int) -> Alert:
    """Return an alert with one more finding, or a newer revision of one; `count`: of them all."""
    others = [each for each in alert.shown if each.uid != row["finding_uid"]]
    newest = sorted([*others, shown(row)], key=lambda each: each.time, reverse=True)
    return msgspec.structs.replace(
        alert,
        level=max(alert.level, row["level"], key=severity),
        resolved=False,
        since=min(filter(None, (alert.since, row["since"], row["time"]))),
        until=max(filter(None, (alert.until, row["time"]))),
        count=count,
        shown=tuple(newest[:MOST_SHOWN]),
    )


def withdrawn(alert: Alert, uid: str, count: int) -> Alert:
    """Return an alert without a finding that no longer holds."""
    left = tuple(each for each in alert.shown if each.uid != uid)
    if count == 0:
        return msgspec.structs.replace(alert, resolved=True, count=0)
    return msgspec.structs.replace(alert, shown=left, count=count)


def digest(rows: Sequence[Mapping[str, Any]], title: str) -> Alert:
    """Return the line of a digest about some findings."""
    counts: dict[tuple[str, str, str], int] = {}
    for row in rows:
        rule = row["rule_id"], row["level"], _short(row["title"]) or row["rule_id"]
        counts[rule] = counts.get(rule, 0) + 1
    times = [row["time"] for row in rows]
    return Alert(
        about="digest",
        level=max((row["level"] for row in rows), key=severity),
        title=title,
        since=min(times),
        until=max(times),
        count=len(rows),
        lines=_sorted(
            Line(rule_id=r, level=v, title=t, count=n) for (r, v, t), n in counts.items()
        ),
    )


def resolved(alert: Alert) -> Alert:
    """Return an alert about auditlake itself after the problem has ended."""
    return msgspec.structs.replace(alert, resolved=True)


def merged(parts: Sequence[Alert]) -> Alert:
    """Return the sum of the parts of one digest; any other alert has one part."""
    if len(parts) == 1:
        return parts[0]
    sums: dict[tuple[str, str, str], int] = {}
    for line in (line for part in parts for line in part.lines):
        rule = line.rule_id, line.level, line.title
        sums[rule] = sums.get(rule, 0) + line.count
    return msgspec.structs.replace(
        parts[0],
        level=max((part.level for part in parts), key=severity),
        since=min((part.since for part in parts if part.since), default=None),
        until=max((part.until for part in parts if part.until), default=None),
        count=sum(part.count for part in parts),
        lines=_sorted(Line(rule_id=r, level=v, title=t, count=n) for (r, v, t), n in sums.items()),
    )


def _sorted(lines: Iterable[Line]) -> tuple[Line, ...]:
    ordered = sorted(lines, key=lambda line: (-severity(line.level), -line.count, line.title))
    return tuple(ordered[:_MOST_LINES])
