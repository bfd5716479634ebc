"""Small real lakes for the dashboard's tests, drawn from a seed."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import write_deltalake

from pipelines.schemas import EVENTS, RAW

HOSTILE = (
    "=cmd|' /C calc'!A0 ![x](http://evil.example/beacon.png) [click](javascript:alert(1)) "
    "<img src=http://evil.example/x.png onerror=alert(1)> **bold** :red[red] :material/home: $x^2$ "
    '"quoted\\" `code`'
)
_SERVICES = {
    "okta": ("okta", "system_log", ["user.session.start", "user.mfa.factor.deactivate"]),
    "google": ("google_workspace", "drive", ["download", "change_user_access"]),
    "entra": ("entra_id", "sign_ins", ["Sign-in activity"]),
    "atlassian": ("atlassian", "events", ["jira_issue_viewed", "policy_updated"]),
}
_PEOPLE = [
    "ada",
    "grace",
    "alan",
    "barbara",
    "edsger",
    "radia",
    "dennis",
    "linus",
    "margaret",
    "guido",
]
_CLASSES = {
    "user.session.start": ("Authentication", "Logon", "User signed in"),
    "Sign-in activity": ("Authentication", "Logon", "User signed in"),
    "user.mfa.factor.deactivate": ("Account Change", "MFA Factor Disable", "MFA factor removed"),
    "download": ("File Hosting Activity", "Download", "File downloaded"),
    "change_user_access": ("File Hosting Activity", "Share", "Sharing changed"),
    "jira_issue_viewed": ("Web Resources Activity", "Read", "Issue viewed"),
    "policy_updated": ("Entity Management", "Update", "Policy updated"),
}
Row = dict[str, Any]


def events(n: int, *, end: datetime, days: float = 6, seed: int = 7, first: int = 0) -> list[Row]:
    """Return `n` ordinary events spread over the `days` before `end`, numbered from `first`."""
    dice = random.Random(seed)
    step = timedelta(days=days) / n
    return [event(first + i, end - step * (n - i), dice) for i in range(n)]


def event(number: int, time: datetime, dice: random.Random) -> Row:
    integration = dice.choices(list(_SERVICES), weights=[5, 4, 2, 1])[0]
    kind, stream, actions = _SERVICES[integration]
    action = dice.choice(actions)
    activity_type, action_type, message = _CLASSES[action]
    person = dice.choice(_PEOPLE)
    ok = dice.random() > 0.08
    target = f"application-{dice.randrange(40)}"
    return blank() | {
        "time": time,
        "integration": integration,
        "kind": kind,
        "stream": stream,
        "event_id": f"{number:08d}",
        "activity_type": activity_type,
        "action_type": action_type,
        "action": action,
        "class_uid": 3002,
        "activity_id": 1,
        "actor_id": f"00u{person}",
        "actor_name": person.capitalize(),
        "actor_email": f"{person}@acme.example",
        "actor_type": "user",
        "target_id": target,
        "target_name": target.capitalize(),
        "target_type": "AppInstance",
        "targets": [{"id": target, "name": target.capitalize(), "type": "AppInstance"}],
        "outcome": "success" if ok else "failure",
        "outcome_reason": None if ok else "INVALID_CREDENTIALS",
        "source_ip": f"203.0.113.{dice.randrange(1, 60)}",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0",
        "city": "London",
        "country": dice.choice(["GB", "DE", "US", None]),
        "severity": "info",
        "message": message if ok else f"{message}: refused",
        "mapping_version": 1,
    }


def hostile(number: int, time: datetime) -> Row:
    """Return an event with hostile text in every column that an attacker can write."""
    ours = {"event_uid", "integration", "kind", "stream", "event_id", "outcome"}
    texts = {name: HOSTILE for name, dtype in EVENTS.items() if dtype == pl.String}
    theirs = {name: text for name, text in texts.items() if name not in ours}
    return (
        event(number, time, random.Random(number))
        | theirs
        | {"targets": [{"id": HOSTILE, "name": HOSTILE, "type": HOSTILE}] * 2}
    )


def judge(root: Path, at: datetime) -> None:
    """Write a checkpoint and a verification report of a tampered table, with hostile text.

    The page verifies neither: anyone who can write to the lake can write these too.
    """
    folder = root / "integrity" / "okta" / "system_log"
    (folder / "history").mkdir(parents=True, exist_ok=True)
    text = f"audit.example/okta\n7\n{base64.b64encode(bytes(32)).decode()}\n"
    signers = "".join(f"\u2014 {word} c2ln\n" for word in HOSTILE.split())
    (folder / "checkpoint").write_text(f"{text}\n{signers}")
    line = json.dumps({"at": at.isoformat(), "note": f"{text}\n{signers}"})
    (folder / "history" / f"{at:%Y-%m}").write_text(f"{line}\n")
    verdict = {
        "table": "raw/okta/system_log",
        "ok": False,
        "at": at.isoformat(),
        "size": 7,
        "findings": [{"kind": HOSTILE, "detail": HOSTILE}],
    }
    kept = [verdict, verdict | {"table": f"raw/{HOSTILE}", "ok": True, "findings": []}]
    (root / "integrity" / "verification.json").write_text(json.dumps(kept))


def blank() -> Row:
    return dict.fromkeys(EVENTS)


def append(root: Path, rows: Iterable[Row]) -> None:
    """Append the rows to `events` and their records to `raw`, as a round would."""
    landed = [_landed(row) for row in rows]
    write_deltalake(
        root / "events",
        pl.DataFrame(landed, schema=EVENTS),
        mode="append",
        partition_by=["date"],
    )
    for (integration, stream), part in _by_stream(landed).items():
        write_deltalake(
            root / "raw" / integration / stream,
            pl.DataFrame([_record(row) for row in part], schema=RAW),
            mode="append",
            partition_by=["date"],
        )


def _landed(row: Row) -> Row:
    uid = f"{row['integration']}:{row['stream']}:{row['event_id']}"
    return row | {
        "event_uid": uid,
        "date": row["time"].date(),
        "ingested_at": row["time"] + timedelta(seconds=2),
        "seq": int(row["event_id"]),
    }


def _by_stream(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    streams: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        streams.setdefault((row["integration"], row["stream"]), []).append(row)
    return streams


def _record(row: Row) -> Row:
    record = {"uuid": row["event_id"], "eventType": row["action"], "actor": row["actor_email"]}
    raw = json.dumps({**record, "displayMessage": row["message"], "published": str(row["time"])})
    return {name: row.get(name) for name in RAW} | {
        "via": "poll",
        "raw": raw,
        "raw_sha256": hashlib.sha256(raw.encode()).hexdigest(),
    }
