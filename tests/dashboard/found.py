"""Findings about the events of a small lake, as rules would have written them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

from dashboard.lake import Lake as Reading
from pipelines.lake import commits
from pipelines.lake.findings import FINDINGS
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS

RULES = (
    ("Administrator role granted in Okta", "critical", "attack.t1098.003"),
    ("MFA factor removed", "high", "attack.t1556.006"),
    ("Document shared outside the company", "medium", "attack.t1567"),
    ("Many failed sign-ins", "low", "attack.t1110.003"),
    ("Sign-in from a new country", "informational", "attack.t1078.004"),
)
RULESET = "5" * 64
Row = dict[str, Any]


def rule_id(place: int) -> str:
    return f"00000000-0000-4000-8000-{place:012}"


def finding(events: Sequence[Row], place: int = 0, **changes: Any) -> Row:
    """Return a finding of the rule at that place about these events, newest last."""
    title, level, tag = RULES[place]
    last, uids = events[-1], [event["event_uid"] for event in events]
    uid = hashlib.sha256(repr((place, uids[0])).encode()).hexdigest()
    return {
        "finding_uid": uid,
        "revision": 0,
        "status": "found",
        "provisional": False,
        "time": last["time"],
        "since": events[0]["time"],
        "found_at": last["time"] + timedelta(seconds=5),
        "class_uid": 2004,
        "rule_id": rule_id(place),
        "logic_sha256": "1" * 64,
        "ruleset": RULESET,
        "title": title,
        "level": level,
        "author": "auditlake",
        "url": f"https://attack.mitre.org/techniques/{tag[7:].upper().replace('.', '/')}/",
        "license": "Apache-2.0",
        "tags": ["attack.persistence", tag],
        "integration": last["integration"],
        "kind": last["kind"],
        "stream": last["stream"],
        "entity": last["actor_email"] or last["source_ip"],
        "source_ip": last["source_ip"],
        "message": last["message"],
        "count": len(uids),
        "event_uids": uids,
        "matched": [{"field": "eventType", "value": last["action"]}],
        "exception": None,
        **changes,
    }


def write(root: Path, rows: Sequence[Row]) -> list[Row]:
    """Append the findings, numbered behind those that are there; return them."""
    table = root / "findings"
    first = DeltaTable(table).count() if table.exists() else 0
    landed = [
        {**row, "seq": first + place, "date": row["time"].date()} for place, row in enumerate(rows)
    ]
    frame = pl.DataFrame(landed, schema=FINDINGS.schema)
    commits.append(Lake(str(root)), FINDINGS, frame)
    return landed


def events(root: Path) -> list[Row]:
    """Return the events of the lake, newest first."""
    table = pl.DataFrame(DeltaTable(root / "events").to_pyarrow_table())
    return table.select(list(EVENTS)).sort("time", "event_uid", descending=True).to_dicts()


def spread(root: Path, n: int = 40, every: int = 23) -> list[Row]:
    """Write `n` findings about every so many events of all levels; return them, newest first."""
    known = events(root)
    return write(
        root,
        [
            finding(known[place * every : place * every + 1 + place % 3][::-1], place % len(RULES))
            for place in range(n)
        ],
    )


def newest(root: Path, place: int = 0) -> str:
    """Return the uid of the newest finding of the rule at that place that is not withdrawn."""
    cases = Reading(str(root), {}).cases().filter(rule_id=rule_id(place), status="found")
    return str(cases.sort("time", descending=True)["finding_uid"][0])


def rows(root: Path, table: str) -> list[Row]:
    """Return the rows of a table, oldest first."""
    kept: list[Row] = DeltaTable(root / table).to_pyarrow_table().to_pylist()
    return sorted(kept, key=lambda row: row["time"])
