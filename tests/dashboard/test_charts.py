"""The graph's colours, and hostile names in its specification."""

from __future__ import annotations

import json
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import charts, times
from dashboard.coverage import Gap
from dashboard.queries import OTHER
from tests.dashboard.small_lakes import HOSTILE
from tests.dashboard.test_uncovered import SINCE, SPAN, gap

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
def test_a_known_value_keeps_its_colour_unless_it_is_taken(
    before: list[str], after: list[str]
) -> None:
    first = charts.coloured({}, before)
    second = charts.coloured(first, after)
    assert len({second[value] for value in after}) == len(after)
    if len(set(before) | set(after)) <= len(charts.PALETTE):
        assert {value: second[value] for value in before} == first


@given(st.text(max_size=8))
def test_a_single_value_gets_a_hue_not_a_tint(value: str) -> None:
    assert charts.coloured({}, [value])[value] < 8


def test_other_counts_all_values_below_the_top() -> None:
    stacked = charts.series([("ada", 5), ("", 2)], 9, "actor", {"ada": 0, "": 1})
    assert [(one.place, one.name, one.n) for one in stacked] == [
        (0, "ada", 5),
        (1, "(none)", 2),
        (OTHER, "Other", 2),
    ]


@pytest.mark.parametrize(
    "name", [HOSTILE, "arn:aws:iam::4711:role/deploy", 'a\\"+alert(1)+\\"', ""]
)
def test_no_value_becomes_code_or_a_field_name(name: str) -> None:
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


def test_names_with_equal_abbreviations_get_distinct_titles() -> None:
    text = specification([("x" * 50 + "1", 3), ("x" * 50 + "2", 3)], 6)
    layers = json.loads(text)["layer"]
    titles = [tip["title"] for tip in layers[1]["encoding"]["tooltip"]]
    assert len(set(titles)) == 4


def tooltips(blind: list[Gap], streams: int) -> list[tuple[int, str | None]]:
    """Return the number of events and the coverage in the tooltip of each bucket."""
    edges, utc = times.edges(*SPAN, times.zone("UTC")), times.zone("UTC")
    schema = {"start": pl.Datetime("us", "UTC"), "series": pl.Int8, "n": pl.UInt32}
    counts = pl.DataFrame([(edges[3], 0, 5)], schema=schema, orient="row")
    stacked = charts.series([("ada", 5)], 5, "actor", {"ada": 0})
    drawn = charts.activity(counts, stacked, edges, SPAN, utc, blind=blind, streams=streams)
    made = json.loads(str(drawn.to_json()))
    data = (made["datasets"][layer["data"]["name"]] for layer in made["layer"])
    (rows,) = [rows for rows in data if rows and "total" in rows[0]]
    return [(row["total"], row.get("coverage")) for row in rows]


def test_every_bucket_has_its_coverage_in_its_tooltip_also_without_events() -> None:
    edges = times.edges(*SPAN, times.zone("UTC"))
    found = tooltips([gap(-9, 12), gap(0, 12, "other")], 3)
    blind = sum(edge < SINCE + timedelta(hours=12) for edge in edges[:-1])
    assert sum(total for total, _ in found) == 5
    words = "not covered: okta other: never polled; okta system_log: never polled"
    assert [text for _, text in found] == (
        [words] * blind + ["all 3 streams"] * (len(edges) - 1 - blind)
    )
    assert {text for _, text in tooltips([], 0)} == {None}


def test_the_graph_of_an_empty_result_has_its_coverage_and_no_bars() -> None:
    edges, utc = times.edges(*SPAN, times.zone("UTC")), times.zone("UTC")
    schema = {"start": pl.Datetime("us", "UTC"), "series": pl.Int8, "n": pl.UInt32}
    drawn = charts.activity(
        pl.DataFrame(schema=schema), (), edges, SPAN, utc, blind=[gap(0, 9)], streams=1
    )
    made = json.loads(str(drawn.to_json()))
    band, bars, hover, strip = made["layer"]
    drawn_parts = [row for one in (band, strip) for row in made["datasets"][one["data"]["name"]]]
    assert {part["fill"] for part in drawn_parts} == {"url(#uncovered)"}
    assert made["datasets"][bars["data"]["name"]] == []
    assert bars["encoding"]["y"]["scale"]["domain"] == [0, 1]
    assert {row["total"] for row in made["datasets"][hover["data"]["name"]]} == {0}


def test_only_a_drag_zooms() -> None:
    start = SINCE.timestamp() * 1000
    assert charts.brushed({}) is None
    assert charts.brushed({"brush": {"start": [start, start + 20]}}) is None
    assert charts.brushed({"brush": {"start": [start, start + 3600_000]}}) == (
        SINCE,
        SINCE + timedelta(hours=1),
    )


def test_zero_has_no_prefix_on_the_axis_and_unknown_outcomes_are_grey() -> None:
    edges = times.edges(*SPAN, times.zone("UTC"))
    top = [("success", 900), ("failure", 80), ("unknown", 20)]
    stacked = charts.series(top, 1000, "outcome", charts.coloured({}, [one for one, _ in top]))
    grey = stacked[2].colour.removeprefix("#")
    shades = [int(grey[place : place + 2], 16) for place in (0, 2, 4)]
    assert max(shades) - min(shades) < 32
    counts = pl.DataFrame({"start": edges[:1], "series": [0], "n": [1000]})
    chart = charts.activity(counts, stacked, edges, SPAN, times.zone("UTC")).to_dict(validate=True)
    axes = [layer["encoding"].get("y", {}).get("axis", {}) for layer in chart["layer"]]
    (axis,) = [axis for axis in axes if axis]
    # Formatted one by one: d3 gives all labels of a formatted axis the prefix of the largest.
    assert axis["labelExpr"] == "format(datum.value, '~s')"
    assert "format" not in axis
