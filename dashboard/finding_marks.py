"""The marks of findings on the graph of Explore: one per bucket, above its bar. Pure."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboard.findings import LEVELS

_COLOURS = ("#b3261e", "#d9622b", "#c99a1b", "#3b6fd4", "#7d8796")
"""By rank of the level."""
_T = pl.Datetime("us", "UTC")


def layers(
    found: pl.DataFrame,
    edges: tuple[datetime, ...],
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
) -> list[alt.Chart]:
    """Return the marks of `findings.marks` as a layer of the graph; none without findings."""
    if found.is_empty():
        return []
    ends = pl.DataFrame({"start": edges[:-1], "end": edges[1:]}, {"start": _T, "end": _T})
    rows = found.join(ends, on="start").with_columns(
        # In the middle of the part of the bucket that is on the graph.
        at=pl.max_horizontal("start", pl.lit(span[0], _T))
        + (
            pl.min_horizontal("end", pl.lit(span[1], _T))
            - pl.max_horizontal("start", pl.lit(span[0], _T))
        )
        / 2,
        level=_by_rank(LEVELS),
        colour=_by_rank(_COLOURS),
        when=pl.col("start").dt.convert_time_zone(zone.key).dt.strftime("%a %d %b %Y %H:%M %Z"),
    )
    chart: alt.Chart = (
        alt.Chart(rows.drop("start", "end"))
        .mark_point(shape="triangle-down", filled=True, size=70, opacity=1)
        .encode(
            x=alt.X("at:T"),
            y=alt.value(-7),
            # Without a scale, since all layers of a graph would share it.
            color=alt.Color("colour:N", scale=None, legend=None),
            tooltip=[
                alt.Tooltip("when:N", title="Time"),
                alt.Tooltip("n:Q", title="Findings", format=","),
                alt.Tooltip("level:N", title="Highest level"),
            ],
        )
    )
    return [chart]


def _by_rank(values: tuple[str, ...]) -> pl.Expr:
    return pl.col("rank").replace_strict(
        range(len(values)), values, default=values[-1], return_dtype=pl.String
    )
