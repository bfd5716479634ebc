"""Pushes that contradict the vendor, and records that are read again: polling decides.

Each service is simulated by the sandbox; a forged delivery is sent by somebody who knows the
webhook's secret.
"""

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines import registry
from pipelines.extraction import batches, client, rounds
from pipelines.extraction.rounds import Round
from pipelines.integrations.cloudflare import _AS_POLLED
from pipelines.lake import known_records, raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk import record_versions
from pipelines.sdk.pages import Span
from pipelines.webhooks.spool import Spool
from pipelines.webhooks.worker import Worker
from sandbox import server
from sandbox.server import Options, running
from sandbox.service import at
from tests.conftest import raw_table
from tests.integrity.matrix import CHECK, attack
from tests.tiers import FULL, crossed

PUSHING = [kind for kind, each in server.services().items() if each.pushes or each.console]
RECORDS = [("okta", "system_log"), ("cloudflare", "audit_logs"), ("cloudflare", "audit_logs_v2")]
"""Streams whose vendors push the records themselves."""
HINTED = [kind for kind in PUSHING if kind not in dict(RECORDS)]
REREADS = 20 if FULL else 4


@pytest.fixture(scope="module")
def box():
    with running(Options(days=3, per_day=60, rate=0)) as started:  # not a weekend alone
        yield started


@pytest.fixture(scope="module")
def polled(box, tmp_path_factory):
    """Return a lake with the records of all services."""
    lake = Lake(str(tmp_path_factory.mktemp("polled")))
    assert [r.error for r in rounds.poll(lake, sources(box)) if r.error] == []
    return lake


def sources(box, *kinds):
    made = box.settings()
    return [source(box, kind) for kind in kinds or made]


def source(box, kind):
    return registry.source(kind, box.settings()[kind])


def delivered(lake, box, kind, headers, body):
    """Store a delivery as the receiver and its worker do."""
    spool = Spool(tables.Lake(lake.root).local.with_name(f"spool-{kind}"), limit=2**24)
    with spool.open():
        spool.put(kind, {"content-type": "application/json", **headers}, body, datetime.now(UTC))
        made = source(box, kind)
        Worker(lake=lake, source=made, push=made.integration.push, spool=spool).run_once()


def as_okta_pushes(record):
    event = json.loads(record)
    chain = (event.pop("request", None) or {}).get("ipChain")
    event["client"] = {**(event.get("client") or {}), "ipChain": chain}
    return event


def as_logpush(stream):
    """Return the function that makes a record of the API one of Logpush."""
    own = {"audit_logs": {"ID": "id", "When": "when"},
           "audit_logs_v2": {"AuditLogID": "id", "ActionTimestamp": "action.time"}}  # fmt: skip

    def made(record):
        event, found = json.loads(record), {}
        for name, path in {**own[stream], **_AS_POLLED[stream]}.items():
            member, _, below = name.partition(".")
            value = at(path)(event)
            if below:
                found.setdefault(member, {})
                found[member] |= {below: value} if value is not None else {}
            else:
                found[member] = value
        return found

    return made


def push(lake, box, kind, *events):
    """Push records, as the vendor does or somebody who knows the secret."""
    if kind == "okta":
        body = json.dumps({"data": {"events": events}}).encode()
    else:
        body = b"\n".join(json.dumps(event).encode() for event in events)
    delivered(lake, box, kind, {}, body)


def poll(lake, box, kind):
    assert [r.error for r in rounds.poll(lake, sources(box, kind)) if r.error] == []


def forged(event):
    """Return a pushed record that blames somebody else."""
    if "actor" in event:
        return {**event, "actor": {**event["actor"], "id": "00uforged", "alternateId": "eve@x.io"}}
    return {**event, "ActorID": "forged", "ActorEmail": "eve@x.io"}


def emptied(event):
    """Return a pushed record with nothing but the id and the time."""
    kept = ("uuid", "published", "ID", "When", "AuditLogID", "ActionTimestamp")
    return {name: value for name, value in event.items() if name in kept}


def widened(event):
    """Return a pushed record with a value that no polled record has, where the mapping reads it."""
    if "actor" in event:
        return {**event, "outcome": {**(event.get("outcome") or {}), "reason": "all is well"}}
    return {**event, "actor": {"id": "forged", "email": "eve@x.io"}}


FORGERIES = [forged, emptied, widened]
UNSEEN = ["event_uid", "event_id", "seq", "ingested_at"]


def shown(lake, kind, stream):
    """Return the events of a stream as they are shown, without the place of their records."""
    found = tables.scan(lake, "events").filter(pl.col("integration") == kind)
    found = found.filter(pl.col("stream") == stream).collect().drop(UNSEEN)
    return found.sort(*found.drop("targets").columns)


def pushed_form(kind, stream):
    return as_okta_pushes if kind == "okta" else as_logpush(stream)


def records(lake, kind, stream):
    """Return some of the records, at most five."""
    return raw_table(lake, kind, stream)["raw"].to_list()[:5]


def versions(lake, kind, stream):
    rules = next(s.versions for s in registry.kind(kind).streams(None) if s.name == stream)
    rows = tables.scan(lake, f"raw/{kind}/{stream}")
    return list(record_versions.differences(raw.versions(rows), rules))


@attack("push a forged, emptied or widened record before polling",
        "the polled one is shown; the forged one is named", CHECK)  # fmt: skip
@pytest.mark.parametrize(("log", "forgery"), crossed(RECORDS, FORGERIES, count=4))
def test_a_forged_push_before_polling_gives_way_to_the_polled_record(
    lake, box, polled, log, forgery
):
    kind, stream = log
    true = records(polled, kind, stream)
    push(lake, box, kind, *(forgery(pushed_form(kind, stream)(each)) for each in true))
    assert raw_table(lake, kind, stream)["via"].to_list() == ["webhook"] * len(true)
    poll(lake, box, kind)
    assert shown(lake, kind, stream).equals(shown(polled, kind, stream))
    assert set(true) < set(raw_table(lake, kind, stream)["raw"])
    named = versions(lake, kind, stream)
    assert len(named) == (len(true) if forgery is forged else 0) or forgery is widened


@attack("push a forged record after polling", "named; nothing changes in `events`", CHECK)
@pytest.mark.parametrize(("kind", "stream"), RECORDS)
def test_a_forged_push_after_polling_changes_nothing_that_is_shown(lake, box, polled, kind, stream):
    poll(lake, box, kind)
    true = records(polled, kind, stream)
    for forgery in FORGERIES:
        push(lake, box, kind, *(forgery(pushed_form(kind, stream)(each)) for each in true))
    assert shown(lake, kind, stream).equals(shown(polled, kind, stream))
    assert len(versions(lake, kind, stream)) == len(true)
    poll(lake, box, kind)
    assert shown(lake, kind, stream).equals(shown(polled, kind, stream))


@pytest.mark.parametrize(("kind", "stream"), RECORDS)
def test_a_true_push_is_one_row_whichever_comes_first(lake, box, polled, kind, stream):
    true = [pushed_form(kind, stream)(each) for each in records(polled, kind, stream)]
    push(lake, box, kind, *true[:3])
    poll(lake, box, kind)
    push(lake, box, kind, *true)
    assert raw_table(lake, kind, stream).height == raw_table(polled, kind, stream).height
    assert versions(lake, kind, stream) == []


@attack("push a forged record of a vendor whose pushes are hints", "not stored", "polling")
@pytest.mark.parametrize("kind", HINTED)
def test_the_contents_of_a_hint_are_never_stored(lake, box, polled, kind):
    """A forged one at most triggers a poll, whatever it contains."""
    poll(lake, box, kind)
    names = [stream.name for stream in source(box, kind).streams()]
    before = {name: raw_table(lake, kind, name) for name in names}
    name = next(name for name, rows in before.items() if rows.height)
    record = json.loads(before[name]["raw"][0])
    address = f"https://x.io/admin/reports/v1/activity/users/all/applications/{name}?alt=json"
    body = json.dumps({**record, "actor": "eve", "initiated_by": "eve"})
    if kind == "office_365":
        body = json.dumps([{**record, "contentType": "Audit.General", "contentId": "1$a"}])
    delivered(lake, box, kind, {"x-goog-resource-uri": address}, body.encode())
    for name, rows in before.items():
        assert raw_table(lake, kind, name).equals(rows)


def rewritten(value):
    """Return a value with its members in another order, and with nulls."""
    match value:
        case dict():
            return {"absent": None, **{k: rewritten(v) for k, v in reversed(value.items())}}
        case list():
            return [rewritten(item) for item in value]
    return value


def read_another_time(stream, record):
    """Return a record as the service may return it another time."""
    event = rewritten(json.loads(record))
    for path in stream.versions.volatile:
        event[path] = "read another time"
    if stream.versions.unordered:
        event["events"].reverse()
    return json.dumps(event).encode()


@pytest.mark.parametrize("kind", list(server.services()))
def test_values_that_change_with_each_read_are_no_other_content(box, polled, kind):
    """Google's activities have an etag and no order of events; other records only have no order."""
    tried = 0
    for stream in source(box, kind).streams():
        if stream.id is None:  # then the bytes are the identity
            continue
        found = raw_table(polled, kind, stream.name).head(20)
        again = [read_another_time(stream, text.encode()) for text in found["raw"]]
        if not stream.latest_of:
            rows = normalise.read(stream, again, datetime.now(UTC), "poll")
            assert rows["event_id"].to_list() == found["event_id"].to_list()
            key = StreamKey(kind, stream.name)
            rows = rows.drop("fault", "bytes")
            assert not known_records.any_fresh(polled, key, rows, stream.versions)
            tried += rows.height
    assert tried > 0


@contextmanager
def reading(box, kind):
    made = source(box, kind)
    with client.connect(made) as connected:
        yield [
            Round(lake=Lake("unused"), source=made, stream=stream, client=connected)
            for stream in made.streams()
        ]


def stored_again(lake, this):
    """Read all pages of a stream and append their records; return (records, rows stored)."""
    now = datetime.now(UTC)
    span = Span(since=now - min(timedelta(days=3), this.stream.keeps * 0.9), until=now)
    between = this.stream.between
    cursor = between(span, now) if between else this.stream.begin(span.since, now)
    with this.client.reading():
        pages = list(this.stream.pages(this.client, cursor, now))
    good, rejected = batches.split_rejected(this, pages, now) if pages else (None, None)
    if good is None or good.is_empty():
        return 0, 0
    assert rejected.is_empty()
    landed = raw.append(lake, this.key, good, None, rules=this.stream.versions)
    return good.height, landed.frame.height


@pytest.mark.parametrize("kind", list(server.services()))
def test_records_that_are_read_again_and_again_add_no_row(box, polled, kind):
    with reading(box, kind) as streams:
        read = 0
        for this in streams:
            found = [stored_again(polled, this) for _ in range(REREADS)]
            assert {rows for _, rows in found} == {0}
            read += min(count for count, _ in found)
    assert read > 0
