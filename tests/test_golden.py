"""Golden pairs: for every stream, records as the vendor writes them, and the rows they become.

tests/fixtures/KIND/STREAM.ndjson holds records, STREAM.expected.json the rows. After a change of a
mapping, UPDATE_GOLDEN=1 writes the rows anew, to be reviewed as a diff.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines import normalise, records, registry

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
STREAMS = [
    (kind, stream.name)
    for kind, integration in registry.kinds().items()
    for stream in integration.streams(None)
    if (FIXTURES / kind / f"{stream.name}.ndjson").exists()
]


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_records_become_exactly_the_expected_rows(kind, stream):
    integration = registry.kind(kind)
    found = next(s for s in integration.streams(None) if s.name == stream)
    lines = records.lines((FIXTURES / kind / f"{stream}.ndjson").read_bytes())
    raw = normalise.read(found, lines, NOW, "poll")
    assert raw["fault"].is_null().all()
    raw = raw.with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    normalised = normalise.normalise(kind, integration, found, raw)
    assert normalised.faults == {}
    rows = [
        {key: value for key, value in row.items() if value not in (None, [])}
        for row in map(
            json.loads, normalised.events.drop("ingested_at").write_ndjson().splitlines()
        )
    ]
    path = FIXTURES / kind / f"{stream}.expected.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    assert rows == json.loads(path.read_text())


def test_every_kind_has_golden_pairs():
    kinds = {kind for kind, _ in STREAMS}
    assert kinds == set(registry.kinds())
