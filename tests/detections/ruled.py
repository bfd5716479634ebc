"""Rules as documents -> files, compiled rules and the records they match."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import yaml

from pipelines.detections import match, rules, ruleset
from pipelines.schemas import Timestamp

START = datetime(2026, 3, 1, tzinfo=UTC)


def written(folder, *documents, name="rule.yml"):
    """Write documents to one file of the folder, and return the file."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump_all(documents, allow_unicode=True), encoding="utf-8")
    return file


def read(folder, *documents):
    """Return the ruleset of these documents."""
    loaded = rules.load([written(folder, *documents)])
    assert loaded.problems == ()
    return ruleset.compiled(loaded)


def raw(records):
    """Return records, values or texts, as rows of a raw table a minute apart."""
    texts = [r if isinstance(r, str | None) else json.dumps(r) for r in records]
    return pl.DataFrame(
        {
            "seq": range(len(texts)),
            "event_id": [f"e{n}" for n in range(len(texts))],
            "time": [START + n * timedelta(minutes=1) for n in range(len(texts))],
            "raw": texts,
        },
        schema_overrides={"raw": pl.String, "time": Timestamp, "seq": pl.Int64},
    )


def hits(compiled, records):
    """Return the indices of the records that one rule matches."""
    found = match.records([compiled], raw(records))
    assert found.errors == {}
    return found.hits["seq"].to_list()
