"""Time that streams do not cover, as the graph of events shows it: a strip, a band, and words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboard import escaping
from dashboard.coverage import Gap
from pipelines.schemas import Timestamp

HEIGHT = 6
"""Of the strip, in pixels."""
CLICK = "uncovered"
"""The selection that a click on the strip makes."""
TOOLTIP = alt.Tooltip("coverage:N", title="Coverage")
# The SVG pattern of static/hatching.html, since Vega-Lite has none of its own.
_HATCHING = "url(#uncovered)"
_SOLID = "#a16207"  # where there is no room for hatching
_LISTED = 4  # streams in a tooltip
_STRIPES = 300  # as narrow as they can be seen, side by side across the graph
_Part = tuple[datetime, datetime, list[Gap]]


def layers(
    blind: Sequence[Gap], span: tuple[datetime, datetime], streams: int, zone: ZoneInfo
) -> tuple[list[alt.Chart], alt.Chart]:
    """Return a hatched band, if none of the streams is covered somewhere, and the strip below.

    The strip can be clicked where a stream has a gap.
    """
    parts, least = _parts(blind), _least(span)
    wide = [part for part in parts if len(part[2]) >= streams and part[1] - part[0] >= least]
    # No other layer has `place`: a click on one of those selects nothing.
    picked = alt.selection_point(name=CLICK, fields=["place"], empty=False)
    # The plot is lower than the chart by its axis, and only Vega knows by how much.
    strip = _hatched(_joined(parts, least), f"height - {HEIGHT}", span, zone).add_params(picked)
    return [_hatched(wide, "0", span, zone)] if wide else [], strip


def is_clicked(selection: Mapping[str, Any]) -> bool:
    """Return whether the strip was clicked."""
    return any(row.get("place") is not None for row in selection.get(CLICK, []))


def described(blind: Sequence[Gap], buckets: pl.DataFrame, streams: int) -> list[str]:
    """Return the coverage of each bucket in words; buckets are in order and adjoin."""
    starts, ends = buckets["start"].to_list(), buckets["end"].to_list()
    found: list[list[Gap]] = [[] for _ in starts]
    for gap in blind:
        first, until = bisect_right(ends, gap.since), bisect_left(starts, gap.until)
        for each in found[first:until]:
            each.append(gap)
    every = "complete" if streams == 1 else f"all {streams:,} streams"
    return [_words(each) if each else every for each in found]


def _hatched(
    parts: Sequence[_Part], top: str, span: tuple[datetime, datetime], zone: ZoneInfo
) -> alt.Chart:
    """Return a hatched rectangle per part, wide enough to be seen within the span."""
    least = _least(span)
    starts = [min(since, span[1] - least) for since, _, _ in parts]
    rows = pl.DataFrame(
        {
            "start": starts,
            "end": [max(part[1], start + least) for start, part in zip(starts, parts, strict=True)],
            "coverage": [_words(blind) for _, _, blind in parts],
            "when": [_when(since, until, zone) for since, until, _ in parts],
            "fill": [_SOLID if part[1] - part[0] < least else _HATCHING for part in parts],
            "place": range(len(parts)),
        },
        schema_overrides={
            **dict.fromkeys(("start", "end"), Timestamp),
            **dict.fromkeys(("coverage", "when", "fill"), pl.String),
        },
    )
    chart: alt.Chart = (
        alt.Chart(rows)
        .mark_rect(clip=True, cursor="pointer")
        .encode(
            x=alt.X("start:T"),
            x2=alt.X2("end:T"),
            y=alt.value(alt.ExprRef(top)),
            y2=alt.value("height"),
            fill=alt.Fill("fill:N", scale=None),
            tooltip=[alt.Tooltip("when:N", title="Time"), TOOLTIP],
        )
    )
    return chart


def _least(span: tuple[datetime, datetime]) -> timedelta:
    return (span[1] - span[0]) / _STRIPES


def _parts(blind: Sequence[Gap]) -> list[_Part]:
    """Return the time between all ends of gaps that has some, with these gaps."""
    begins: dict[datetime, list[Gap]] = {}
    ends: set[datetime] = set()
    for one in blind:
        begins.setdefault(one.since, []).append(one)
        ends |= {one.since, one.until}
    found, open_gaps = [], list[Gap]()
    for since, until in pairwise(sorted(ends)):
        open_gaps = [one for one in open_gaps if one.until > since] + begins.get(since, [])
        if open_gaps:
            found.append((since, until, open_gaps))
    return found


def _joined(parts: Sequence[_Part], least: timedelta) -> list[_Part]:
    """Join neighbouring parts that are too narrow to distinguish, with the gaps of all."""
    found: list[_Part] = []
    for since, until, blind in parts:
        if found and until - since < least and since < found[-1][0] + least:
            first, _, others = found.pop()
            found.append((first, until, [*dict.fromkeys([*others, *blind])]))
        else:
            found.append((since, until, blind))
    return found


def _words(blind: Sequence[Gap]) -> str:
    """Return the streams that are not covered, with the first reason of each."""
    reasons = {one.log: one.reason for one in reversed(blind)}
    gaps = [f"{log[0]} {log[1]}: {reason}" for log, reason in sorted(reasons.items())]
    more = f" and {len(gaps) - _LISTED:,} more" if len(gaps) > _LISTED else ""
    return escaping.vega(f"not covered: {'; '.join(gaps[:_LISTED])}{more}")


def _when(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    local = since.astimezone(zone), until.astimezone(zone)
    return f"{local[0]:%a %d %b %Y %H:%M} \N{EN DASH} {local[1]:%a %d %b %H:%M %Z}"
