"""An export shows one version of the lake, whoever reads it, and reports what it has written."""

import json
from pathlib import Path

import pytest

from pipelines.engines import InProcess
from pipelines.errors import ConfigurationError, LakeError
from pipelines.extraction import exporting
from pipelines.lake import tables
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from tests.extraction.test_renormalise import land, made, record


@pytest.fixture
def filled(lake):
    land(made()(lake), *(record(n, verb=f"v{n}") for n in range(30)))
    return lake


def test_events_that_are_committed_meanwhile_are_not_exported(filled, monkeypatch):
    monkeypatch.setattr(export, "_SPAN", 5)
    rows = []
    pieces = exporting.chunks(filled, Wanted(), "ndjson", InProcess(), rows.append)
    first = b"".join(next(pieces) for _ in range(3))
    land(made()(filled), record(3, verb="later"), record(40, verb="later"))
    lines = (first + b"".join(pieces)).splitlines()
    assert sorted(json.loads(line)["action"] for line in lines) == sorted(
        f"v{n}" for n in range(30)
    )
    assert sum(rows) == 30
    assert len(rows) > 4


@pytest.mark.parametrize("form", export.FORMATS)
def test_an_empty_result_is_a_valid_file(filled, form):
    nothing = Wanted(search="actor:nobody")
    found = b"".join(exporting.chunks(filled, nothing, form, InProcess()))
    matching = export.matching(tables.scan(filled, "events"), nothing)
    assert found == b"".join(export.chunks(matching, form))


def test_a_lake_without_events_and_a_bad_search_are_refused_before_a_byte_is_written(lake, filled):
    with pytest.raises(ConfigurationError):
        exporting.chunks(filled, Wanted(where=["town:x"]), "csv", InProcess())
    Path(lake.uri("events")).rename(lake.uri("elsewhere"))
    with pytest.raises(LakeError, match="there are no events"):
        exporting.chunks(lake, Wanted(), "csv", InProcess())
