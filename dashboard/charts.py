"""The activity graph: pure Altair over counts that Polars has already made.

The x axis is true time with ticks worked out here, since Vega knows no zone but the browser's.
Values of events are never field names, shorthand or expressions: a series is a number, its name
only the title of a tooltip's line.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import altair as alt
import polars as pl

from dashboard import fields, times
from dashboard.queries import OTHER

HEIGHT = 178
BRUSH = "brush"
# Eight hues, then a lighter tint of each for those that find their own hue taken.
PALETTE = (
    *("#3b6fd4", "#12a594", "#e5924a", "#8e63ce", "#d6567a", "#7c9a3d", "#4aa3df", "#e3b341"),
    *("#8fb0ec", "#7fd0c6", "#f2c79e", "#c3addf", "#ebaabc", "#b9cb93", "#a0d0ef", "#f2d999"),
)
_HUES = 8
_OTHER_COLOUR = "#98a2b3"
_OUTCOMES = {"success": "#9db8a9", "failure": "#d64545", "unknown": "#e0982f"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One colour of the graph: a value of the field grouped by, or all the others."""

    place: int
    value: str | None  # None: the others
    colour: str
    n: int

    @property
    def name(self) -> str:
        return "Other" if self.value is None else fields.shown(self.value)


def coloured(known: Mapping[str, int], values: Iterable[str]) -> dict[str, int]:
    """`known` and a place in the palette for each of `values`; what is known does not move.

    A value asks for the place its own text gives, so that two analysts mostly see the same
    colours; it moves only from one that another value on the same graph already has.
    """
    places = dict(known)
    shown: set[int] = set()
    for value in sorted(values, key=lambda value: value not in known):
        if value not in places or places[value] in shown:
            places[value] = _free_place(value, taken=set(places.values()), shown=shown)
        shown.add(places[value])
    return places


def series(
    top: Sequence[tuple[str, int]], total: int, field: str, places: Mapping[str, int]
) -> tuple[Series, ...]:
    """What the graph is stacked of, most frequent first; `top` has values and counts."""
    named = tuple(
        Series(place=place, value=value, n=n, colour=_colour(field, value, places))
        for place, (value, n) in enumerate(top)
    )
    others = total - sum(n for _, n in top)
    rest = Series(place=OTHER, value=None, n=others, colour=_OTHER_COLOUR)
    return (*named, rest) if others else named


def activity(
    counts: pl.DataFrame,
    stacked: Sequence[Series],
    edges: tuple[datetime, ...],
    span: tuple[datetime, datetime],
    zone: ZoneInfo,
) -> alt.LayerChart | alt.FacetChart:
    """Bars per bucket, stacked; drag to choose a span, hover for all series of a bucket."""
    bars = _clamped(counts, edges, span)
    return alt.layer(
        _bars(bars, stacked, _x(edges, span, zone)),
        _hover(_wide(bars, stacked, zone), stacked),
        height=HEIGHT,
        padding={"left": 0, "right": 4, "top": 4, "bottom": 0},
        config=alt.Config(view=alt.ViewConfig(strokeWidth=0)),
    )


def brushed(selection: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """The span that was dragged over; None for a mere click."""
    ends = next(iter(selection.get(BRUSH, {}).values()), None)
    if not ends or ends[1] - ends[0] < 1000:
        return None
    return datetime.fromtimestamp(ends[0] / 1000, UTC), datetime.fromtimestamp(ends[1] / 1000, UTC)


def swatch(colour: str) -> str:
    """A small square of that colour as an address of an image that is fetched from nowhere."""
    square = f"<rect width='12' height='12' rx='3' fill='%23{colour.removeprefix('#')}'/>"
    size = "xmlns='http://www.w3.org/2000/svg' width='12' height='12'"
    return f"data:image/svg+xml;utf8,<svg {size}>{square}</svg>"


def _free_place(value: str, taken: set[int], shown: set[int]) -> int:
    wished = zlib.crc32(value.encode()) % _HUES
    hues = [(wished + step) % _HUES for step in range(_HUES)]
    order = hues + [hue + _HUES for hue in hues]
    unused = [place for place in order if place not in taken]
    return next(iter(unused or [place for place in order if place not in shown] or order))


def _colour(field: str, value: str, places: Mapping[str, int]) -> str:
    if field == "outcome" and value in _OUTCOMES:
        return _OUTCOMES[value]
    return PALETTE[places[value]]


def _clamped(
    counts: pl.DataFrame, edges: tuple[datetime, ...], span: tuple[datetime, datetime]
) -> pl.DataFrame:
    """With the end of each bucket; the outer two end where the span does."""
    ends = pl.DataFrame(
        {"start": edges[:-1], "end": edges[1:]},
        schema_overrides=dict.fromkeys(("start", "end"), _T),
    )
    return counts.join(ends, on="start", how="left").with_columns(
        start=pl.max_horizontal("start", pl.lit(span[0], _T)),
        end=pl.min_horizontal("end", pl.lit(span[1], _T)),
    )


_T = pl.Datetime("us", "UTC")


def _wide(bars: pl.DataFrame, stacked: Sequence[Series], zone: ZoneInfo) -> pl.DataFrame:
    """A row a bucket: when (in `zone`), the total, and a column `s0`, `s1`, ... a series."""
    local = [pl.col(end).dt.convert_time_zone(zone.key) for end in ("start", "end")]
    columns = {
        f"s{index}": pl.col("n").filter(pl.col("series") == one.place).sum()
        for index, one in enumerate(stacked)
    }
    return (
        bars.group_by("start", "end")
        .agg(total=pl.col("n").sum(), **columns)
        .sort("start")
        .with_columns(
            when=pl.format(
                "{} \N{EN DASH} {}",
                local[0].dt.strftime("%a %d %b %Y %H:%M"),
                local[1].dt.strftime("%H:%M %Z"),
            )
        )
    )


def _x(edges: tuple[datetime, ...], span: tuple[datetime, datetime], zone: ZoneInfo) -> alt.X:
    labels = {
        instant: text
        for instant, text in times.ticks(edges, zone).items()
        if span[0] <= instant <= span[1]
    }
    lookup = ",".join(f"'{_epoch(instant)}':'{text}'" for instant, text in labels.items())
    axis = alt.Axis(
        grid=False,
        values=[instant.isoformat() for instant in labels],
        labelExpr=f"({{{lookup}}})[toString(+datum.value)]",
        labelOverlap=True,
    )
    scale = alt.Scale(type="utc", domain=[end.isoformat() for end in span])
    return alt.X("start:T", title=None, axis=axis, scale=scale)


def _bars(bars: pl.DataFrame, stacked: Sequence[Series], x: alt.X) -> alt.Chart:
    places = [one.place for one in stacked]
    scale = alt.Scale(domain=places, range=[one.colour for one in stacked])
    ordered = bars.with_columns(
        order=pl.col("series").replace_strict(places, range(len(places)), return_dtype=pl.Int8)
    )
    chart: alt.Chart = (
        alt.Chart(ordered)
        .mark_bar(binSpacing=1, clip=True)
        .encode(
            x=x,
            x2="end:T",
            y=alt.Y("sum(n):Q", title=None, axis=_counts()),
            color=alt.Color("series:N", scale=scale, legend=None),
            order=alt.Order("order:Q"),
        )
        .add_params(alt.selection_interval(name=BRUSH, encodings=["x"]))
    )
    return chart


def _counts() -> alt.Axis:
    return alt.Axis(tickCount=3, tickMinStep=1, domain=False, ticks=False, format="~s")


def _hover(wide: pl.DataFrame, stacked: Sequence[Series]) -> alt.Chart:
    """An unseen band a bucket that tells every series when pointed at."""
    pointed = alt.selection_point(
        name="pointed", on="pointerover", clear="pointerout", empty=False, encodings=["x"]
    )
    lines = [
        alt.Tooltip(field=f"s{index}", type="quantitative", title=title, format=",")
        for index, title in enumerate(_titles([one.name for one in stacked]))
    ]
    head = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("total:Q", title="Events", format=",")]
    chart: alt.Chart = (
        alt.Chart(wide)
        .mark_rect(color="#64748b", clip=True)
        .encode(
            x="start:T",
            x2="end:T",
            opacity=alt.condition(pointed, alt.value(0.14), alt.value(0)),
            tooltip=[*head, *lines],
        )
        .add_params(pointed)
    )
    return chart


def _titles(names: Iterable[str], most: int = 40) -> list[str]:
    """Names fit for a tooltip: no character that could end Vega's string, none twice."""
    titles: list[str] = []
    for name in names:
        plain = "".join(
            c if c.isprintable() and c not in "\\\"'`" else "\N{MIDDLE DOT}" for c in name
        )
        short = plain if len(plain) <= most else f"{plain[: most - 1]}…"
        titles.append(f"{short} ({len(titles)})" if short in (*titles, "Time", "Events") else short)
    return titles


def _epoch(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)
