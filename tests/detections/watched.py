"""Lakes with records that rules look at, made without any vendor."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines import registry
from pipelines.detections import engine
from pipelines.detections.sources import Reader
from pipelines.extraction import derive
from pipelines.extraction import report as reports
from pipelines.lake import events, look, raw, streams, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import StreamKey
from pipelines.mapping import normalise

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
LATER = datetime(2026, 4, 1, tzinfo=UTC)
KEYS = {
    "okta": {"base_url": "https://acme.okta.example", "api_token": "not-a-secret"},
    "jumpcloud": {"base_url": "https://api.jumpcloud.example", "api_key": "not-a-secret"},
}
LOGS = {
    "okta": StreamKey("okta", "system_log"),
    "jumpcloud": StreamKey("jumpcloud", "directory_insights"),
}


def okta(number, action="user.session.start", *, minute=None, who="ada@example.com", **more):
    """Return a record of Okta's System Log."""
    time = START + timedelta(minutes=number if minute is None else minute)
    return {
        "uuid": f"okta-{number:05}",
        "published": time.isoformat().replace("+00:00", "Z"),
        "eventType": action,
        "actor": {"id": f"id of {who}", "type": "User", "alternateId": who, "displayName": who},
        "outcome": {"result": "SUCCESS"},
        "client": {"ipAddress": "203.0.113.7"},
        **more,
    }


def jumpcloud(number, action="user_login_attempt", *, minute=None, who="ada@example.com", **more):
    """Return a record of JumpCloud's Directory Insights."""
    time = START + timedelta(minutes=number if minute is None else minute)
    return {
        "id": f"jc-{number:05}",
        "timestamp": time.isoformat().replace("+00:00", "Z"),
        "event_type": action,
        "service": "directory",
        "initiated_by": {"type": "user", "email": who, "id": f"jc id of {who}"},
        "client_ip": "198.51.100.4",
        "success": True,
        **more,
    }


def land(lake, kind, *records, name=None, derived=True, via="poll", entries=()):
    """Store records of an integration, and derive their events."""
    source = registry.source(name or kind, {"kind": kind, **KEYS[kind]})
    stream = next(s for s in source.streams() if s.name == LOGS[kind].stream)
    key = StreamKey(source.name, stream.name)
    streams.record(lake, key, streams.facts_of(source, stream), LATER)
    texts = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
    rows = normalise.read(stream, texts, LATER, via)
    assert rows["fault"].null_count() == rows.height
    raw.append(lake, key, rows, "cursor", entries=entries, rules=stream.versions)
    if derived:
        catch_up(lake, kind, name)
    return key


def catch_up(lake, kind, name=None):
    source = registry.source(name or kind, {"kind": kind, **KEYS[kind]})
    stream = next(s for s in source.streams() if s.name == LOGS[kind].stream)
    report = reports.Report(integration=source.name, stream=stream.name)
    derive.catch_up(lake, source, stream, report)


def covered(since=0, until=24 * 60):
    """Return the coverage of some minutes since `START`."""
    minute = timedelta(minutes=1)
    return Entry(since=START + since * minute, until=START + until * minute, asked_at=LATER)


def rule(number, selection, condition="s", *, product="okta", service="", **more):
    """Return a rule that matches a selection of fields."""
    source = {"product": product, **({"service": service} if service else {})}
    return {
        "title": f"Rule {number}",
        "id": f"{number:08}-0000-4000-8000-000000000000",
        "name": f"rule_{number}",
        "status": "experimental",
        "level": "high",
        "author": "somebody",
        "references": ["https://example.com/rule"],
        "logsource": source,
        "detection": {"s": selection, "condition": condition},
        **more,
    }


def correlation(number, parts, *, kind="event_count", by=("person",), span="1h", **condition):
    """Return a correlation of the rules with these numbers."""
    made = {
        "type": kind,
        "rules": [f"rule_{part}" for part in parts],
        "group-by": list(by),
        "timespan": span,
        **({"condition": condition} if condition else {}),
    }
    return {
        "title": f"Correlation {number}",
        "id": f"{number:08}-0000-4000-8000-000000000000",
        "level": "critical",
        "correlation": made,
    }


def clock():
    return LATER


def rows_of(lake, seqs, key=LOGS["okta"]):
    """Return rows of a stream as rules are evaluated on them."""
    reader = Reader(lake)
    with look.look(lake) as seen:
        (found,) = reader.rows(seen, [(log, seqs) for log in reader.logs([key])])
    return found


def detect(lake, rules, *keys, **options):
    """Run the engine to the end, and return the rows it added to `findings`."""
    steps = [*engine.detect(lake, rules, keys or None, **{"clock": clock, **options})]
    found = [step.findings for step in steps]
    return pl.concat(found) if found else pl.DataFrame()


def table(lake, name):
    found = tables.scan(lake, name)
    return pl.DataFrame() if found is None else found.collect()


def findings(lake):
    return table(lake, "findings").sort("seq")


def derived(lake, key):
    return events.derived(lake, key)
