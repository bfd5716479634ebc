"""The marks of findings on the graph."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from dashboard import finding_marks, findings

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EDGES = tuple(NOW + timedelta(hours=n) for n in range(4))
SPAN = NOW + timedelta(minutes=30), EDGES[-1]


def test_marks_are_in_the_middle_of_the_visible_part_of_a_bucket() -> None:
    found = pl.DataFrame(
        {"start": [EDGES[0], EDGES[2]], "n": [3, 1], "rank": [0, 9]},
        schema_overrides={"start": pl.Datetime("us", "UTC")},
    )
    (chart,) = finding_marks.layers(found, EDGES, SPAN, ZoneInfo("Europe/London"))
    rows = chart.data.to_dicts()
    assert [row["at"] for row in rows] == [
        NOW + timedelta(minutes=45),
        NOW + timedelta(hours=2, minutes=30),
    ]
    assert [row["level"] for row in rows] == ["critical", "informational"]
    assert chart.to_dict()["encoding"]["color"]["scale"] is None


def test_no_findings_make_no_layer() -> None:
    none = findings.marks(findings.NONE, EDGES, ())
    assert finding_marks.layers(none, EDGES, SPAN, ZoneInfo("UTC")) == []
