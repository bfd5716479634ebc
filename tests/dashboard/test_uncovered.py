"""The strip below the graph: it shows every gap, and a click on it is known."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from dashboard import charts, times, uncovered
from dashboard.coverage import Gap

SINCE = datetime(2026, 11, 20, tzinfo=UTC)
SPAN = SINCE, SINCE + timedelta(days=2)


def gap(since: float, until: float, stream: str = "system_log") -> Gap:
    ends = [SINCE + timedelta(hours=hours) for hours in (since, until)]
    return Gap(since=ends[0], until=ends[1], log=("okta", stream), reason="never polled")


def drawn(blind: list[Gap], streams: int = 1) -> charts.Layers:
    zone = times.zone("UTC")
    counts = pl.DataFrame(
        schema={"start": pl.Datetime("us", "UTC"), "series": pl.Int8, "n": pl.UInt32}
    )
    return charts.activity(
        counts, (), times.edges(*SPAN, zone), SPAN, zone, blind=blind, streams=streams
    )


def strip(blind: list[Gap], streams: int = 2) -> list[tuple[timedelta, timedelta, str]]:
    """Return when each part of the strip begins and ends, and the streams that it names."""
    made = json.loads(str(drawn(blind, streams).to_json()))
    rows = made["datasets"][made["layer"][-1]["data"]["name"]]
    return [
        (
            datetime.fromisoformat(row["start"]).replace(tzinfo=UTC) - SINCE,
            datetime.fromisoformat(row["end"]).replace(tzinfo=UTC) - SINCE,
            " ".join(re.findall(r"\bs\w+:", row["coverage"])),
        )
        for row in rows
    ]


SECOND, HOUR = 1 / 3600, timedelta(hours=1)
STRIPE = timedelta(days=2) / 300


def test_a_gap_too_short_to_be_seen_is_a_stripe() -> None:
    assert strip([gap(7, 7 + SECOND)]) == [(7 * HOUR, 7 * HOUR + STRIPE, "system_log:")]


def test_a_short_gap_at_the_end_is_as_wide_and_has_its_own_times() -> None:
    (part,) = strip([gap(48 - SECOND, 48)])
    assert part == (48 * HOUR - STRIPE, 48 * HOUR, "system_log:")
    made = json.loads(str(drawn([gap(7, 7 + 60 * SECOND)], 2).to_json()))
    (row,) = made["datasets"][made["layer"][-1]["data"]["name"]]
    assert row["when"] == "Fri 20 Nov 2026 07:00 \N{EN DASH} Fri 20 Nov 07:01 UTC"


def test_short_gaps_within_a_stripe_are_one_part_that_names_all() -> None:
    short = [gap(7, 7 + SECOND, "s1"), gap(7 + 2 * SECOND, 7 + 3 * SECOND, "s2")]
    assert strip(short) == [(7 * HOUR, 7 * HOUR + STRIPE, "s1: s2:")]


def test_a_long_gap_does_not_name_the_streams_of_a_short_one_beside_it() -> None:
    both = [gap(6, 7, "s1"), gap(7, 7 + SECOND, "s2"), gap(8, 9, "s3")]
    parts = [
        (6 * HOUR, 7 * HOUR, "s1:"),
        (7 * HOUR, 7 * HOUR + STRIPE, "s2:"),
        (8 * HOUR, 9 * HOUR, "s3:"),
    ]
    assert strip(both, 4) == parts


def test_many_short_gaps_are_as_many_parts_as_can_be_seen() -> None:
    many = [gap(place * 5 * SECOND, (place * 5 + 1) * SECOND) for place in range(30_000)]
    found = strip(many)
    assert len(found) <= 300
    assert all(until - since >= STRIPE for since, until, _ in found)


def test_a_short_gap_of_all_streams_is_no_band_behind_the_bars() -> None:
    assert len(drawn([gap(7, 7 + SECOND)]).layer) == len(drawn([]).layer)
    assert len(drawn([gap(7, 9)]).layer) == len(drawn([]).layer) + 1


@pytest.mark.parametrize("blind", [[], [gap(7, 7 + SECOND)], [gap(7, 7)], [gap(0, 48)]])
def test_the_strip_can_be_clicked_whatever_the_gaps(blind: list[Gap]) -> None:
    made = json.loads(str(drawn(blind).to_json()))
    assert uncovered.CLICK in [one["name"] for one in made["params"]]


def test_only_a_click_on_the_strip_is_one() -> None:
    assert uncovered.is_clicked({"uncovered": [{"place": 0}]})
    assert not uncovered.is_clicked({"uncovered": [{}]})
    assert not uncovered.is_clicked({"uncovered": [{"place": None}], "brush": {}})
    assert not uncovered.is_clicked({})
