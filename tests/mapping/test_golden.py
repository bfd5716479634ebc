"""Golden pairs: for every stream, records as the vendor writes them, and the expected events.

tests/fixtures/KIND/STREAM.ndjson holds records, STREAM.expected.json the rows. After a change of a
mapping, UPDATE_GOLDEN=1 rewrites the rows, for review as a diff.
"""

import json
import os

import polars as pl
import pytest

from pipelines import registry
from pipelines.mapping import normalise, ocsf
from pipelines.sdk import json_records
from tests.mapping.rows import FIXTURES, NOW, STREAMS


@pytest.mark.parametrize(("kind", "stream"), STREAMS)
def test_records_become_exactly_the_expected_rows(kind, stream):
    integration = registry.kind(kind)
    found = next(s for s in integration.streams(None) if s.name == stream)
    lines = json_records.split_lines((FIXTURES / kind / f"{stream}.ndjson").read_bytes())
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


def expected(kind):
    paths = sorted((FIXTURES / kind).glob("*.expected.json"))
    return [row for path in paths for row in json.loads(path.read_text())]


@pytest.mark.parametrize("kind", registry.kinds())
def test_every_activity_of_a_mapping_table_has_a_golden_pair(kind):
    known = {answer for _, _, answer in ocsf.rules(kind)} | {ocsf.CATCH_ALL}
    assert known - {(row["class_uid"], row["activity_id"]) for row in expected(kind)} == set()


@pytest.mark.parametrize("kind", registry.kinds())
def test_every_stream_of_a_mapping_table_has_golden_pairs(kind):
    named = {stream for stream, _, _ in ocsf.rules(kind) if stream != "*"}
    assert named - {name for of, name in STREAMS if of == kind} == set()


@pytest.mark.parametrize("kind", registry.kinds())
def test_every_expected_row_has_a_readable_message(kind):
    silent = [row["event_uid"] for row in expected(kind) if not row.get("message")]
    assert silent == []
