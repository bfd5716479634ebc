"""The timeline of an entity: one row per integration, one clickable cell per hour or day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboard import entities, times
from dashboard.entities import Entity

CELL = "cell"
_MOST = 100  # cells per row
_HOUR = timedelta(hours=1)


def edges(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return the edges of the cells, which are no shorter than an hour."""
    # A shorter range has its hours in full: an hour is what a click opens.
    found = times.edges(since, max(until, since + 61 * _HOUR), zone, most=_MOST)
    last = next((n for n, edge in enumerate(found) if edge >= until), len(found) - 1)
    return found[: last + 1]


def counted(events: pl.LazyFrame, entity: Entity, edges: tuple[datetime, ...]) -> pl.DataFrame:
    """Return events per integration and cell: integration, cell (index of its edge), n, failed."""
    starts = pl.lit(pl.Series([int(edge.timestamp() * 1_000_000) for edge in edges]))
    return (
        entities.of(events, entity)
        .group_by(
            "integration",
            cell=starts.search_sorted(pl.col("time").dt.epoch("us"), side="right").cast(pl.Int64)
            - 1,
        )
        .agg(n=pl.len(), failed=(pl.col("outcome") == "failure").sum())
        .filter(pl.col("cell").is_between(0, len(edges) - 2))
        .sort("integration", "cell")
        .collect()
    )


def chart(counts: pl.DataFrame, edges: tuple[datetime, ...], zone: ZoneInfo) -> alt.Chart:
    """Return cells that are darker with more events, and outlined in red with failed ones."""
    # Names are numbered: event text never becomes part of the specification's expressions.
    names = sorted(set(counts["integration"]))
    rows = counts.with_columns(
        row=pl.col("integration").replace_strict(names, range(len(names)), return_dtype=pl.Int64),
    ).join(_named(edges, zone), on="cell")
    picked = alt.selection_point(name=CELL, fields=["row", "cell"], empty=False)
    labels = {
        instant: text
        for instant, text in times.ticks(edges, zone).items()
        if edges[0] <= instant <= edges[-1]
    }
    lookup = ",".join(f"'{_epoch(instant)}':'{text}'" for instant, text in labels.items())
    axis = alt.Axis(
        grid=False,
        values=[instant.isoformat() for instant in labels],
        labelExpr=f"({{{lookup}}})[toString(+datum.value)]",
        labelOverlap=True,
    )
    domain = [edges[0].isoformat(), edges[-1].isoformat()]
    drawn: alt.Chart = (
        alt.Chart(rows)
        .mark_rect(cornerRadius=2, cursor="pointer", color="#3b6fd4", strokeWidth=1.5)
        .encode(
            x=alt.X("start:T", title=None, axis=axis, scale=alt.Scale(type="utc", domain=domain)),
            x2="end:T",
            y=alt.Y(
                "integration:N",
                title=None,
                axis=alt.Axis(domain=False, ticks=False, labelLimit=140),
            ),
            fillOpacity=alt.FillOpacity(
                "n:Q", legend=None, scale=alt.Scale(type="sqrt", range=[0.25, 1])
            ),
            stroke=alt.condition("datum.failed > 0", alt.value("#d64545"), alt.value(None)),
            tooltip=[
                alt.Tooltip("when:N", title="Time"),
                alt.Tooltip("integration:N", title="Integration"),
                alt.Tooltip("n:Q", title="Events", format=","),
                alt.Tooltip("failed:Q", title="Failed", format=","),
            ],
        )
        .add_params(picked)
        .properties(height=26 * max(1, len(names)) + 30)
    )
    return drawn


def clicked(
    selection: Mapping[str, Any], counts: pl.DataFrame, edges: tuple[datetime, ...]
) -> tuple[str, datetime, datetime] | None:
    """Return the integration and the time of the clicked cell; None if there is none."""
    cells = selection.get(CELL) or []
    names = sorted(set(counts["integration"]))
    if not cells:
        return None
    row, cell = int(cells[0]["row"]), int(cells[0]["cell"])
    if row >= len(names) or cell + 1 >= len(edges):
        return None
    return names[row], edges[cell], edges[cell + 1]


def is_long(since: datetime, until: datetime) -> bool:
    """Return True for a cell that a click divides into hours."""
    return until - since > _HOUR


def _named(edges: tuple[datetime, ...], zone: ZoneInfo) -> pl.DataFrame:
    """Return the cells with their ends and their time in words: cell, start, end, when."""
    cells = range(len(edges) - 1)
    moments = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "cell": list(cells),
            "start": edges[:-1],
            "end": edges[1:],
            "when": [_when(edges, cell, zone) for cell in cells],
        },
        schema={"cell": pl.Int64, "start": moments, "end": moments, "when": pl.String},
    )


def _when(edges: tuple[datetime, ...], cell: int, zone: ZoneInfo) -> str:
    local = [edge.astimezone(zone) for edge in edges[cell : cell + 2]]
    return f"{local[0]:%a %d %b %Y %H:%M} \N{EN DASH} {local[1]:%a %H:%M %Z}"


def _epoch(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
