"""The graph's colours and the harmlessness of names in its specification."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import charts, times
from dashboard.queries import OTHER
from tests.dashboard.small_lakes import HOSTILE

SINCE = datetime(2026, 11, 20, tzinfo=UTC)
SPAN = SINCE, SINCE + timedelta(days=2)
names = st.lists(st.text(max_size=5), unique=True, max_size=8)


def specification(tops: list[tuple[str, int]], total: int) -> str:
    places = charts.coloured({}, [value for value, _ in tops])
    stacked = charts.series(tops, total, "actor", places)
    edges = times.edges(*SPAN, times.zone("UTC"))
    rows = [(edges[3], one.place, one.n) for one in stacked]
    schema = {"start": pl.Datetime("us", "UTC"), "series": pl.Int8, "n": pl.UInt32}
    counts = pl.DataFrame(rows, schema=schema, orient="row")
    return str(charts.activity(counts, stacked, edges, SPAN, times.zone("UTC")).to_json())


@given(before=names, after=names)
def test_a_known_value_keeps_its_colour_unless_a_neighbour_has_it(
    before: list[str], after: list[str]
) -> None:
    first = charts.coloured({}, before)
    second = charts.coloured(first, after)
    assert len({second[value] for value in after}) == len(after)
    if len(set(before) | set(after)) <= len(charts.PALETTE):
        assert {value: second[value] for value in before} == first


@given(st.text(max_size=8))
def test_a_value_alone_has_a_hue_not_a_tint(value: str) -> None:
    assert charts.coloured({}, [value])[value] < 8


def test_the_others_are_what_the_top_leaves() -> None:
    stacked = charts.series([("ada", 5), ("", 2)], 9, "actor", {"ada": 0, "": 1})
    assert [(one.place, one.name, one.n) for one in stacked] == [
        (0, "ada", 5),
        (1, "(none)", 2),
        (OTHER, "Other", 2),
    ]


@pytest.mark.parametrize(
    "name", [HOSTILE, "arn:aws:iam::4711:role/deploy", 'a\\"+alert(1)+\\"', ""]
)
def test_no_name_of_a_value_can_be_code_or_a_field(name: str) -> None:
    text = specification([(name, 3)], 3)
    titles = [
        tip["title"]
        for layer in json.loads(text)["layer"]
        for tip in layer["encoding"].get("tooltip", [])
    ]
    assert titles[:2] == ["Time", "Events"]
    assert not set(titles[2]) & set("\\\"'`")
    assert len(titles[2]) <= 40
    assert "evil.example/x.png" not in text


def test_names_that_shorten_to_the_same_are_told_apart() -> None:
    text = specification([("x" * 50 + "1", 3), ("x" * 50 + "2", 3)], 6)
    layers = json.loads(text)["layer"]
    titles = [tip["title"] for tip in layers[1]["encoding"]["tooltip"]]
    assert len(set(titles)) == 4


def test_a_click_is_no_zoom_and_a_drag_is() -> None:
    start = SINCE.timestamp() * 1000
    assert charts.brushed({}) is None
    assert charts.brushed({"brush": {"start": [start, start + 20]}}) is None
    assert charts.brushed({"brush": {"start": [start, start + 3600_000]}}) == (
        SINCE,
        SINCE + timedelta(hours=1),
    )
