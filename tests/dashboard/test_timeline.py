"""The timeline counts every event once, and a click names its cell."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import entities, timeline, times
from dashboard.entities import Entity
from dashboard.lake import Lake, Snapshot
from tests.dashboard import small_lakes
from tests.dashboard.small_lakes import HOSTILE

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONDON = times.zone("Europe/London")
ADA = "ada@acme.example"


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    root: Path = tmp_path_factory.mktemp("timeline")
    small_lakes.append(root, small_lakes.events(600, end=NOW))
    found = Lake(str(root), {}).look()
    assert found
    return found


@pytest.mark.parametrize("length", [timedelta(minutes=10), timedelta(days=2), timedelta(days=40)])
def test_every_event_of_the_range_is_in_one_cell(snapshot: Snapshot, length: timedelta) -> None:
    entity = Entity(kind="actor", value=ADA, since=NOW - length, until=NOW)
    edges = timeline.edges(NOW - length, NOW, LONDON)
    counts = snapshot.ask(timeline.counted, entity, edges)
    profile = snapshot.ask(entities.profile, entity)
    assert counts["n"].sum() == profile.events
    assert counts["failed"].sum() == profile.failed
    assert edges[0] <= NOW - length
    assert edges[-1] >= NOW


def test_a_cell_is_an_hour_or_longer() -> None:
    for days in (0.01, 1, 4, 30, 400):
        edges = timeline.edges(NOW - timedelta(days=days), NOW, LONDON)
        assert edges[1] - edges[0] >= timedelta(hours=1)
        assert len(edges) <= 120
    assert not timeline.is_long(NOW, NOW + timedelta(hours=1))
    assert timeline.is_long(NOW, NOW + timedelta(days=1))


def test_a_click_names_the_integration_and_the_time() -> None:
    edges = timeline.edges(NOW - timedelta(days=1), NOW, LONDON)
    counts = pl.DataFrame({"integration": ["okta", "entra"], "cell": [3, 4], "n": 1, "failed": 0})
    picked = {timeline.CELL: [{"row": 1, "cell": 3}]}
    assert timeline.clicked(picked, counts, edges) == ("okta", edges[3], edges[4])
    for nothing in ({}, {timeline.CELL: []}, {timeline.CELL: [{"row": 9, "cell": 3}]}):
        assert timeline.clicked(nothing, counts, edges) is None


def test_hostile_names_stay_data() -> None:
    edges = timeline.edges(NOW - timedelta(days=1), NOW, LONDON)
    counts = pl.DataFrame({"integration": [HOSTILE], "cell": [3], "n": [1], "failed": [1]})
    chart = timeline.chart(counts, edges, LONDON).to_dict()
    (rows,) = chart.pop("datasets").values()
    assert rows[0]["integration"] == HOSTILE
    assert "evil" not in json.dumps(chart)
