"""Records of the golden pairs of all vendors, and the rows that records become."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines import registry
from pipelines.mapping import normalise
from pipelines.sdk import json_records

FIXTURES = Path(__file__).parents[1] / "fixtures"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
STREAMS = [
    (kind, stream.name)
    for kind, integration in registry.kinds().items()
    for stream in integration.streams(None)
    if (FIXTURES / kind / f"{stream.name}.ndjson").exists()
]


def records(kind, stream):
    """Return the fixture's records that are objects."""
    lines = json_records.split_lines((FIXTURES / kind / f"{stream}.ndjson").read_bytes())
    return [record for record in map(json_records.load, lines) if isinstance(record, dict)]


def stream_of(kind, name):
    return next(s for s in registry.kind(kind).streams(None) if s.name == name)


def normalised(kind, stream, given):
    """Return the events and the faults of records, without a check of their ids and times."""
    raw = pl.DataFrame(
        {
            "event_id": [str(number) for number in range(len(given))],
            "time": [NOW] * len(given),
            "ingested_at": [NOW] * len(given),
            "seq": range(len(given)),
            "raw": [json.dumps(r, ensure_ascii=False) for r in given],
        },
        schema_overrides={
            "time": pl.Datetime("us", "UTC"),
            "ingested_at": pl.Datetime("us", "UTC"),
        },
    )
    found = normalise.normalise(kind, registry.kind(kind), stream_of(kind, stream), raw)
    return found.events, found.faults


def rows(kind, stream, *given):
    return normalised(kind, stream, given)[0].to_dicts()


def row(kind, stream, given):
    """Return the only row of a record."""
    (found,) = rows(kind, stream, given)
    return found


def everywhere(record, change):
    """Yield copies of a record; in each, `change` has been applied to another of its values."""
    for path in _paths(record):
        copied = copy.deepcopy(record)
        above = copied
        for step in path[:-1]:
            above = above[step]
        changed = change(path, above[path[-1]])
        if changed is not None:
            above[path[-1]] = changed
            yield copied


def _paths(value, path=()):
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    for step, below in steps:
        yield (*path, step)
        if isinstance(below, dict | list):
            yield from _paths(below, (*path, step))
