"""Tables about the data files of `events` are opened and read as they are."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.integrity.verifier import per_file
from pipelines.integrity.verifier.job import LakeView
from pipelines.schemas import EVENTS
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path):
    small_lakes.append(tmp_path / "lake", small_lakes.events(60, end=NOON, days=3.0))
    return LakeView(root=str(tmp_path / "lake"), memory=tmp_path / "memory", keys=[])


def test_the_batches_are_of_files_that_events_still_has(place):
    files = per_file.event_files(place)
    listed = files.select("path").with_row_index("file")
    stray = pl.concat([listed, pl.DataFrame({"file": [99], "path": ["gone"]}, listed.schema)])
    (batch,) = per_file.batches(place, stray)
    assert batch["file"].to_list() == [0, 1, 2, 3]
    assert list(per_file.batches(place, stray.filter(path="gone"))) == []


def test_files_are_read_whole_and_each_text_once(place):
    files = per_file.event_files(place)
    events = per_file.scan(place, files["uri"].to_list(), EVENTS, ["date"])
    assert events.select(pl.len()).collect().item() == files["rows"].sum() == 60
    texts = per_file.texts_of(events, "integration").sort().to_list()
    assert texts == ["atlassian", "entra", "google", "okta"]
    assert per_file.scan(place, [], EVENTS, ["date"]).collect().is_empty()


def test_the_first_unverified_file_is_remembered_by_table(place):
    assert per_file.first_unverified(place, "rollups") == 0
    per_file.keep_verified(place, "rollups", 7)
    assert per_file.first_unverified(place, "rollups") == 7
    assert per_file.first_unverified(place, "text_index") == 0
    for damaged in ("", "[]", '{"next": -1}', '{"next": true}', "\udc80"):
        state = place.memory / "verified" / "rollups.json"
        state.write_text(damaged, errors="surrogateescape")
        assert per_file.first_unverified(place, "rollups") == 0


def test_what_cannot_be_read_is_a_finding(place):
    verdict = per_file.begin("events")
    for file in Path(place.root).glob("events/_delta_log/*"):
        file.write_text("no log")
    assert per_file.opened(place, verdict) is None
    assert [finding.kind for finding in per_file.ended(verdict).findings] == ["unreadable"]
    shutil.rmtree(place.root)
    missing = per_file.begin("events")
    assert per_file.opened(place, missing) is None
    assert missing.ok
