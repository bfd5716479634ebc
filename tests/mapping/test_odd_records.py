"""Unforeseen records: an odd field only loses that field, and no record fails its batch.

SOAK=50 tries fifty times as many.
"""

import json
import os
from datetime import UTC, datetime
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
from pipelines.sdk.contract import Field
from tests.extraction.test_renormalise import events, land, made, record
from tests.mapping.test_golden import FIXTURES, STREAMS

NOW = datetime(2030, 1, 1, tzinfo=UTC)
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
