"""Ids, times and odd records: an odd field only loses itself, and no record fails its batch.

SOAK=50 tries fifty times as many odd records.
"""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines import registry
from pipelines.extraction import derive
from pipelines.extraction import report as reports
from pipelines.lake import raw
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS
from pipelines.sdk import json_records
from pipelines.sdk.contract import Field, Stream
from tests.extraction.test_renormalise import events, land, made, record
from tests.mapping import rows
from tests.mapping.test_golden import FIXTURES, STREAMS

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MOMENT = "2026-05-01T10:00:00Z"
TRIES = int(os.environ.get("SOAK", "1")) + 1

ODD = (
    *(None, True, 5, -1, 1.5, 10**400, float("inf"), "", "x", "@", "\ud800", "\x00", "9" * 400),
    *("[::1]:443", "2026-13-45", "é" * 5000, [], {}, [None], [1], ["a"], [[[]]], [{}], {"a": 1}),
    [{"id": {"a": 1}, "name": [1], "type": 5, "Name": {}, "Value": [], "ID": {}}],
    {"id": [], "type": {}, "name": {"x": None}},
)
NO_RECORDS = (b"\x80", b"", b"[", b"nul", b'{"id":"a', b'{"id":"\xe9"}', b"[" * 3000)


def paths(value, at=()):
    """Yield the paths of all values of a record, at any depth."""
    yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from paths(inner, (*at, key))


def replaced(value, path, by):
    if not path:
        return by
    head, *rest = path
    copy = value.copy()
    copy[head] = replaced(value[head], rest, by)
    return copy


def spoilt(chance, value):
    """The record with odd values at some paths."""
    for _ in range(chance.randint(1, 4)):
        value = replaced(value, chance.choice(list(paths(value))), chance.choice(ODD))
    return json.dumps(value).encode()


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in STREAMS}))
@settings(max_examples=TRIES, deadline=None, phases=[Phase.generate, Phase.shrink])
@given(seed=st.integers(0, 2**32))
def test_no_record_makes_a_batch_fail(kind, seed):
    for stream in (stream for other, stream in STREAMS if other == kind):
        read_and_derived(kind, stream, Random(seed))


def read_and_derived(kind, stream, chance):
    """A batch of spoilt records between two good ones."""
    integration = registry.kind(kind)
    found = next(s for s in integration.streams(None) if s.name == stream)
    lines = json_records.split_lines((FIXTURES / kind / f"{stream}.ndjson").read_bytes())
    values = [json.loads(line) for line in lines]
    bad = [spoilt(chance, chance.choice(values)) for _ in range(40)]
    batch = [lines[0], *bad, chance.choice(NO_RECORDS), lines[0]]
    rows = normalise.read(found, batch, NOW, "poll").with_row_index("seq")
    assert rows.height == len(batch)
    good = rows.filter(pl.col("fault").is_null())
    derived = normalise.normalise(kind, integration, found, good)
    assert dict(derived.events.schema) == EVENTS
    assert set(derived.events["seq"]) == set(good["seq"])
    assert not derived.events["message"].is_null().any()
    alone = normalise.normalise(kind, integration, found, rows.head(1)).events
    assert derived.events.filter(seq=0).equals(alone)


def test_values_that_cannot_be_derived_are_counted_by_column(lake):
    history = made({"action": "verb", "actor_name": Field(lambda who: who["name"], "who")})(lake)
    land(history, record(1, verb="a", who={"name": "Ada"}))
    report = reports.Report(integration="", stream="")
    lines = [record(n, verb="b", who=n) for n in (2, 3)]
    rows = normalise.read(history.stream, [line.encode() for line in lines], NOW, "poll")
    raw.append(lake, history.key, rows.drop("fault", "bytes"), "cursor")
    derive.catch_up(lake, history.source, history.stream, report)
    assert report.faults == {"actor_name": 2}
    assert events(history)["actor_name"].to_list() == ["Ada", None, None]


def read(*records, fallback=None, **members):
    """Return the raw rows of records, given as values or as bytes."""
    stream = STREAM if not members else replace(STREAM, **members)
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in records]
    return normalise.read(stream, lines, NOW, "poll", fallback)


STREAM = Stream(
    name="log", begin=lambda since, now: "", pages=lambda *_: iter(()), id="id", time="time",
    columns={"action": "verb"}, keeps=timedelta(days=1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-03-01T12:00:00Z", 0),
        ("2026-03-01T12:00:00.5Z", 500_000),
        ("2026-03-01T12:00:00.123456789Z", 123_456),
        ("2026-03-01T13:00:00+01:00", 0),
        ("2026-03-01T12:00:00+0000", 0),
        ("2026-03-01T12:00:00", 0),
        ("2026-03-01 12:00:00", 0),
        (" 2026-03-01T12:00:00.25 ", 250_000),
        ("20260301T120000Z", 0),
    ],
)
def test_every_spelling_of_a_time_becomes_utc_in_microseconds(text, microseconds):
    rows = read({"id": "1", "time": text}, {"id": "2", "time": "2026-01-01T00:00:00Z"})
    expected = datetime(2026, 3, 1, 12, 0, 0, microseconds, UTC)
    assert rows["time"].to_list()[0] == expected
    assert rows["date"].to_list()[0] == expected.date()
    assert rows["fault"].null_count() == 2


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"time": "2026-03-01T12:00:00Z"}, "no id"),
        ({"id": " ", "time": "2026-03-01T12:00:00Z"}, "no id"),
        ({"id": "1"}, "no time that can be read"),
        ({"id": "1", "time": "yesterday"}, "no time that can be read"),
        ({"id": "1", "time": 1_772_000_000}, "no time that can be read"),
        ({"id": "1", "time": "1999-12-31T23:59:59Z"}, "time out of range: 1999-12-31"),
        ({"id": "1", "time": "2030-01-02T00:00:01Z"}, "time out of range: 2030-01-02"),
        (b'{"id": "\xff"}', "not UTF-8"),
        (b'{"id": "1", ', "not JSON: Expecting property name enclosed in double quotes"),
    ],
)
def test_a_record_that_cannot_be_placed_is_rejected_with_the_reason(record, fault):
    good = {"id": "2", "time": "2026-03-01T12:00:00Z"}
    faults = read(record, good)["fault"].to_list()
    assert faults[0].startswith(fault)
    assert faults[1] is None


def test_times_are_accepted_up_to_a_day_ahead_of_our_clock():
    assert read({"id": "1", "time": "2030-01-02T00:00:00Z"})["fault"].to_list() == [None]


def test_a_record_without_a_time_has_that_of_its_page():
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = read({"id": "1"}, {"id": "2", "time": "2026-03-02T00:00:00Z"}, fallback=noon)
    assert rows["time"].to_list() == [noon, datetime(2026, 3, 2, tzinfo=UTC)]


def test_a_record_without_an_identity_is_known_by_its_bytes():
    """Not even the order of its members may differ."""
    records = b'{"time":"2026-03-01T12:00:00Z"}', b'{"time": "2026-03-01T12:00:00Z"}'
    rows = read(*records, records[0], id=None)
    assert rows["event_id"].to_list() == rows["raw_sha256"].to_list()
    assert rows["event_id"].n_unique() == 2


def test_versions_of_a_record_differ_by_content_but_not_by_the_order_of_members():
    time = '"time":"2026-03-01T12:00:00Z"'
    records = [f'{{"id":"a@b","risk":"none",{time}}}', f'{{{time},"risk":"none","id":"a@b"}}',
               f'{{"id":"a@b","risk":"high",{time}}}']  # fmt: skip
    rows = read(*(text.encode() for text in records), latest_of="id")
    first, same, changed = rows["event_id"]
    assert first == same != changed
    version = normalise.version_of(replace(STREAM, latest_of="id"))
    assert set(rows.select(version).to_series()) == {"a@b"}
    assert normalise.version_of(STREAM) is None


def test_the_bytes_of_a_record_are_kept_exactly():
    odd = b'{ "id":"1",\t"time":"2026-03-01T12:00:00Z","x":1.0e2,"x":"\\u00e9" }'
    rows = read(odd)
    assert rows["bytes"].to_list() == [odd]
    assert rows["raw"].to_list() == [odd.decode()]
    assert rows["raw_sha256"].to_list() == [sha256(odd).hexdigest()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("", ""), ("x", "x"), (7, "7"), (True, "true"), ({"a": ["é"]}, '{"a":["é"]}')],
)
def test_values_that_are_no_text_become_json(value, text):
    assert normalise.text(value) == text


@pytest.mark.parametrize("latest_of", [None, "id"])
def test_ids_that_differ_only_in_a_lone_surrogate_stay_two(latest_of):
    stream = made(latest_of=latest_of)(None).stream
    time = b'"time":"2026-03-01T12:00:00Z"'
    spellings = (b"x\\ud800", b"x\\ud801", b"\\ud800x", b"x\xef\xbf\xbd", b"x\\ud83d\\ude00")
    records = [b'{"id":"%s",%s}' % (spelling, time) for spelling in spellings]
    frame = normalise.read(stream, records, NOW, "poll")
    ids = [text.partition("@")[0] for text in frame["event_id"]]
    assert ids == ["x\ufffdD800", "x\ufffdD801", "\ufffdD800x", "x\ufffd", "x\U0001f600"]
    assert frame["fault"].is_null().all()
    assert normalise.read(stream, records, NOW, "poll")["event_id"].equals(frame["event_id"])


@pytest.mark.parametrize(
    ("kind", "stream", "record"),
    [
        ("cloudflare", "audit_logs_v2", {"audit_log_id": "a", "action": {"time": MOMENT}}),
        ("atlassian", "events", {"id": "a", "attributes": {"processedAt": MOMENT}}),
        ("jumpcloud", "directory_insights", {"_id": "a", "timestamp": MOMENT}),
        ("jumpcloud", "directory_insights", {"id": "a", "@timestamp": MOMENT}),
    ],
)
def test_ids_and_times_are_found_under_a_services_other_names(kind, stream, record):
    found = normalise.read(rows.stream_of(kind, stream), [json.dumps(record).encode()], NOW, "poll")
    assert found.select("event_id", "fault").row(0) == ("a", None)
    assert found["time"][0] == datetime.fromisoformat(MOMENT)
