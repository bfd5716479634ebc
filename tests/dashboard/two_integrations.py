"""A lake of two integrations, where every value of the one called `vault` is recognisable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from dashboard import findings, silences
from dashboard.access_log import Seen
from dashboard.lake import Lake as Reading
from pipelines.lake import coverage, maintenance, raw, reconciliation, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import EVENTS, RECONCILED, REJECTED
from tests.dashboard import found, small_lakes

SEEN, HIDDEN = StreamKey("okta", "system_log"), StreamKey("vault", "zebra_log")
EVENTS_SEEN, EVENTS_HIDDEN = 211, 2003
MARKS = ("zebra", "vault", "2,003", "2,214")
"""Texts that only the integration `vault` has, and numbers that only arise with it."""
ROLES: dict[str, Any] = {"helpdesk": ["okta"], "audit": ["*"]}
SECRETS: dict[str, Any] = {"allowed_groups": ["helpdesk", "audit", "guests"], "roles": ROLES}
_SHARED = {"source_ip": "203.0.113.7", "country": "GB", "session_id": "shared"}
_OKTA = "00u{:017}"


def fill(root: Path, now: datetime) -> None:
    """Write events, aggregates, persons, coverage, reports and notes of both integrations."""
    small_lakes.append(root, [*_seen(now - timedelta(days=2)), *_hidden(now)])
    lake = Lake(str(root))
    list(maintenance.maintain(lake, [], now.date() - timedelta(days=1)))
    for key in (SEEN, HIDDEN):
        _describe(lake, key, now)
    _judge(root, now)
    _note(root, now)
    _find(root, now)


def link(now: datetime, key: StreamKey) -> str:
    """Return the link to the newest event of a stream."""
    rows = _seen(now - timedelta(days=2)) if key == SEEN else _hidden(now)
    newest = max(rows, key=lambda row: row["time"])
    return f"{newest['time'].date()}/{key.integration}:{key.stream}:{newest['event_id']}"


def _seen(end: datetime) -> list[small_lakes.Row]:
    rows = small_lakes.events(EVENTS_SEEN, end=end, days=5)
    ours = {"integration": SEEN.integration, "stream": SEEN.stream, "kind": "okta"}
    for number, row in enumerate(rows):
        row.update(ours | {"actor_id": _OKTA.format(number % 9)})
        # Known by the account alone: its person is found in `identities`.
        row.update({"actor_email": None} if number % 9 == 3 and number > 20 else {})
    return [row | (_SHARED if row["source_ip"].endswith("7") else {}) for row in rows]


def _hidden(end: datetime) -> list[small_lakes.Row]:
    rows = small_lakes.events(EVENTS_HIDDEN, end=end, days=12, first=5000)
    texts = [name for name, dtype in EVENTS.items() if dtype == pl.String]
    theirs = {name: f"zebra-{name}" for name in texts} | {
        **{"integration": HIDDEN.integration, "stream": HIDDEN.stream, "kind": "okta"},
        "actor_email": "zebra@acme.example",
        "targets": [{"id": "zebra-1", "name": "zebra-target_name", "type": "zebra"}] * 2,
    }
    for number, row in enumerate(rows):
        kept = {name: row[name] for name in ("event_id", "outcome", "actor_type")}
        row.update(theirs | kept | {"actor_id": _OKTA.format(number % 5)})
    return [row | (_SHARED if number % 3 else {}) for number, row in enumerate(rows)]


def _describe(lake: Lake, key: StreamKey, now: datetime) -> None:
    mark = "zebra" if key == HIDDEN else "plain"
    streams.record(lake, key, Facts(kind="okta", title=f"{mark} title"), now)
    since = now - timedelta(days=3)
    wanted = Entry(since=since, until=now, asked_at=now, outcome="wanted")
    failed = Entry(since=now, until=now, asked_at=now, outcome="failed", reason=f"{mark} failure")
    coverage.record(lake, key, [wanted, failed])
    bad = {"integration": key.integration, "stream": key.stream, "ingested_at": now}
    bad |= {"reason": f"{mark} rejected", "raw": mark.encode(), "raw_sha256": mark}
    raw.append_rejected(lake, key, pl.DataFrame([bad], schema=REJECTED))
    counts = dict.fromkeys(RECONCILED, 2003 if key == HIDDEN else 3)
    day = {"integration": key.integration, "stream": key.stream, "date": now.date()}
    reconciliation.write(lake, key, pl.DataFrame([counts | day], schema=RECONCILED))


def _judge(root: Path, now: datetime) -> None:
    """Write a report of each raw table and of `events`, which quotes the hidden integration."""
    verdicts = [
        {"table": table, "ok": False, "at": now.isoformat(), "size": size, "removed": size}
        | {"findings": [{"kind": "changed", "detail": f"{mark} row"}]}
        for table, size, mark in (
            (SEEN.table, 3, "plain"),
            (HIDDEN.table, 2003, "zebra"),
            ("events", 2214, "zebra"),
        )
    ]
    (root / "integrity").mkdir(exist_ok=True)
    (root / "integrity" / "verification.json").write_text(json.dumps(verdicts))


def _note(root: Path, now: datetime) -> None:
    """Record a search and a saved view of somebody who may see everything."""
    lake = Reading(str(root), {})
    about = "q=zebra-actor_name"
    lake.access.record(now, Seen(who="auditor", what="searched", about=about, events=2003))
    lake.views.add(now, who="auditor", name="All of zebra", address=about)


def _find(root: Path, now: datetime) -> None:
    """Write a finding of each integration, and one of both; people have decided about all."""
    known = found.events(root)
    ours = next(one for one in known if one["integration"] == SEEN.integration)
    theirs = next(one for one in known if one["integration"] == HIDDEN.integration)
    mark = {"title": "zebra rule", "author": "zebra", "matched": [{"field": "f", "value": "zebra"}]}
    made = [
        found.finding([ours], 1),
        found.finding([theirs], 2, **mark),
        # Of the visible integration by its last event alone.
        found.finding([theirs, ours], 0, **mark, message="zebra"),
    ]
    found.write(root, made)
    lake = Reading(str(root), {})
    for one in made:
        note = "plain" if one is made[0] else "zebra"
        closed = findings.decision([one["finding_uid"]], "auditor", "closed", note=note)
        lake.triage.add_all(now, closed)
        fields = {"entity": note, "integration": one["integration"] if note != "zebra" else "vault"}
        excepted = silences.made(one["rule_id"], fields, now + timedelta(days=9))
        lake.exceptions.add(now, **silences.row(excepted, "auditor", note, note))


def finding_uids(root: Path) -> dict[str, str]:
    """Return the uid of each finding, by the note of the decision about it and its rule."""
    rows = Reading(str(root), {}).cases()
    return dict(rows.select("rule_id", "finding_uid").iter_rows())


NOW = datetime.now(UTC)
