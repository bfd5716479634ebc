"""The dashboard's charts: pure Altair over counts that Polars has already made.

The x axis is true time with ticks computed here, since Vega knows no zone but the browser's. Event
text never becomes a field name, shorthand or expression: a series is a number, and its name only
the title of a line in a tooltip.
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

from dashboard import escaping, fields, times, uncovered
from dashboard.coverage import Gap
from dashboard.layers import Layers
from dashboard.queries import OTHER
from pipelines.schemas import Timestamp

HEIGHT = 178
BRUSH = "brush"
# Eight hues, then a lighter tint of each for values whose own hue is taken.
PALETTE = (
    *("#3b6fd4", "#12a594", "#e5924a", "#8e63ce", "#d6567a", "#7c9a3d", "#4aa3df", "#e3b341"),
    *("#8fb0ec", "#7fd0c6", "#f2c79e", "#c3addf", "#ebaabc", "#b9cb93", "#a0d0ef", "#f2d999"),
)
_HUES = 8
_OTHER_COLOUR = "#98a2b3"
_OUTCOMES = {"success": "#9db8a9", "failure": "#d64545", "unknown": "#b4bcc8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One colour of the graph: a value of the grouping field, or all others."""

    place: int
    value: str | None  # None: all others
    colour: str
    n: int

    @property
    def name(self) -> str:
        return "Other" if self.value is None else fields.shown(self.value)


def coloured(known: Mapping[str, int], values: Iterable[str]) -> dict[str, int]:
    """Return `known` plus a palette place for each of `values`.

    A value's preferred place is a hash of its text, so that two analysts mostly see the same
    colours; its place changes only if another value in the same graph already has it.
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
    """Return the series to stack, most frequent first; `top` has values and counts."""
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
    *,
    blind: Sequence[Gap] = (),
    streams: int = 0,
    marks: Sequence[alt.Chart] = (),
) -> Layers:
    """Return stacked bars per bucket; drag to select a range, hover for all series of a bucket.

    Where some of the `streams` have gaps (`blind`), a hatched strip runs below the bars, which can
    be clicked; where all have, a hatched band is drawn behind them as well: a missing bar there
    does not mean that nothing happened. Every tooltip has the coverage of its bucket.
    """
    buckets = _buckets(edges, span)
    bars = counts.rename({"start": "bucket"}).join(buckets, on="bucket", how="left")
    wide = _wide(bars, buckets, stacked, zone)
    if streams:
        words = uncovered.described(blind, wide, streams)
        wide = wide.with_columns(pl.Series("coverage", words, pl.String))
    bands, strip = uncovered.layers(blind, span, streams, zone)
    return Layers(
        layer=[
            *bands,
            _bars(bars, stacked, _x(edges, span, zone)),
            _hover(wide, stacked),
            strip,
            *marks,
        ],
        height=HEIGHT,
        padding={"left": 0, "right": 4, "top": 14 if marks else 4, "bottom": 0},
        config=alt.Config(view=alt.ViewConfig(strokeWidth=0)),
    )


def shares(found: pl.DataFrame) -> alt.Chart:
    """Return two bars per value: its share of the selection and of the baseline."""
    names = _titles(
        f"{fields.label(field)}: {fields.shown(value)}"
        for field, value in found.select("field", "value").iter_rows()
    )
    rows = (
        found.with_columns(pl.Series("name", names), place=pl.int_range(pl.len()))
        .select("name", "place", **{"Selection": "share", "Baseline": "usual"})
        .unpivot(on=["Selection", "Baseline"], index=["name", "place"], value_name="share")
    )
    chart: alt.Chart = (
        alt.Chart(rows)
        .mark_bar(height=7, cornerRadius=2)
        .encode(
            y=alt.Y("name:N", sort=names, title=None, axis=_NAMES),
            yOffset=alt.YOffset("variable:N", sort=list(_COMPARED)),
            x=alt.X("share:Q", title=None, axis=_SHARES, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("variable:N", scale=_COMPARED_SCALE, legend=_ABOVE),
            tooltip=[
                alt.Tooltip("name:N", title="Value"),
                alt.Tooltip("variable:N", title="Of"),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
            ],
        )
        .properties(height=26 * found.height + 90)
    )
    return chart


_COMPARED = {"Selection": "#e5924a", "Baseline": "#9aa5b5"}
_COMPARED_SCALE = alt.Scale(domain=list(_COMPARED), range=list(_COMPARED.values()))
_NAMES = alt.Axis(labelLimit=220, domain=False, ticks=False)
_SHARES = alt.Axis(format=".0%", tickCount=5)
_ABOVE = alt.Legend(orient="top", title=None, columns=4)


def week(hours: pl.DataFrame) -> alt.Chart:
    """Return a heat map of activity: weekdays down, hours of the day across."""
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    rows = hours.with_columns(
        day=pl.col("weekday").replace_strict(range(1, 8), days, return_dtype=pl.String)
    )
    chart: alt.Chart = (
        alt.Chart(rows)
        .mark_rect(cornerRadius=2, color=PALETTE[0])
        .encode(
            x=alt.X("hour:O", title=None, axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
            y=alt.Y("day:O", sort=days, title=None, axis=alt.Axis(domain=False, ticks=False)),
            opacity=alt.Opacity("n:Q", legend=None, scale=alt.Scale(type="sqrt", range=[0.06, 1])),
            tooltip=[
                alt.Tooltip("day:O", title="Day"),
                alt.Tooltip("hour:O", title="Hour"),
                alt.Tooltip("n:Q", title="Events", format=","),
            ],
        )
        .properties(height=190)
    )
    return chart


def daily(counts: pl.DataFrame, places: Mapping[str, int]) -> alt.Chart:
    """Return events per day, coloured by integration; `counts` come from entities.daily."""
    names = counts["integration"].unique(maintain_order=True).to_list()
    rows = counts.with_columns(pl.col("integration").replace_strict(names, _titles(names)))
    scale = alt.Scale(domain=_titles(names), range=[PALETTE[places[name]] for name in names])
    chart: alt.Chart = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("date:T", title=None, axis=alt.Axis(grid=False, format="%d %b", tickCount=8)),
            y=alt.Y("sum(n):Q", title=None, axis=_counts()),
            color=alt.Color("integration:N", scale=scale, legend=_ABOVE),
            tooltip=[
                alt.Tooltip("date:T", title="Day (UTC)", format="%d %b %Y"),
                alt.Tooltip("integration:N", title="Integration"),
                alt.Tooltip("n:Q", title="Events", format=","),
            ],
        )
        .properties(height=180)
    )
    return chart


def brushed(selection: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """Return the selected range; None for a mere click."""
    ends = next(iter(selection.get(BRUSH, {}).values()), None)
    # Milliseconds: less than a second cannot be meant.
    if not ends or ends[1] - ends[0] < 1000:
        return None
    return datetime.fromtimestamp(ends[0] / 1000, UTC), datetime.fromtimestamp(ends[1] / 1000, UTC)


def swatch(colour: str) -> str:
    """Return a small square of that colour as a data URL: nothing has to be fetched."""
    square = f"<rect width='12' height='12' rx='3' fill='%23{colour.removeprefix('#')}'/>"
    size = "xmlns='http://www.w3.org/2000/svg' width='12' height='12'"
    return f"data:image/svg+xml;utf8,<svg {size}>{square}</svg>"


def _free_place(value: str, taken: set[int], shown: set[int]) -> int:
    # Not hash(), which differs between processes.
    wished = zlib.crc32(value.encode()) % _HUES
    hues = [(wished + step) % _HUES for step in range(_HUES)]
    order = hues + [hue + _HUES for hue in hues]
    # Where the palette is used up, at least no two series of this graph share a colour.
    unused = [place for place in order if place not in taken]
    return next(iter(unused or [place for place in order if place not in shown] or order))


def _colour(field: str, value: str, places: Mapping[str, int]) -> str:
    if field == "outcome" and value in _OUTCOMES:
        return _OUTCOMES[value]
    return PALETTE[places[value]]


def _buckets(edges: tuple[datetime, ...], span: tuple[datetime, datetime]) -> pl.DataFrame:
    """Return each bucket's start in the counts and its ends, the outer ones cut to the range."""
    ends = pl.DataFrame(
        {"bucket": edges[:-1], "end": edges[1:]}, dict.fromkeys(("bucket", "end"), Timestamp)
    )
    return ends.select(
        "bucket",
        start=pl.max_horizontal("bucket", pl.lit(span[0], Timestamp)),
        end=pl.min_horizontal("end", pl.lit(span[1], Timestamp)),
    )


def _wide(
    bars: pl.DataFrame, buckets: pl.DataFrame, stacked: Sequence[Series], zone: ZoneInfo
) -> pl.DataFrame:
    """Return one row per bucket: when (in `zone`), total, and one column per series: s0, s1, ...

    Buckets without events have zeros.
    """
    local = [pl.col(end).dt.convert_time_zone(zone.key) for end in ("start", "end")]
    columns = {
        f"s{index}": pl.col("n").filter(pl.col("series") == one.place).sum()
        for index, one in enumerate(stacked)
    }
    counted = bars.group_by("bucket").agg(total=pl.col("n").sum(), **columns)
    return (
        buckets.join(counted, on="bucket", how="left")
        .with_columns(pl.col("total", *columns).fill_null(0))
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
    # An expression that Vega compiles: `text` comes from times.ticks, never from an event.
    lookup = ",".join(f"'{int(at.timestamp() * 1000)}':'{text}'" for at, text in labels.items())
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
    # Without events Vega would draw zero in the middle.
    most = alt.Undefined if ordered.height else alt.Scale(domain=[0, 1])
    chart: alt.Chart = (
        alt.Chart(ordered)
        .mark_bar(binSpacing=1, clip=True)
        .encode(
            x=x,
            x2=alt.X2("end:T"),
            y=alt.Y("sum(n):Q", title=None, axis=_counts(), scale=most),
            color=alt.Color("series:N", scale=scale, legend=None),
            order=alt.Order("order:Q"),
        )
        .add_params(alt.selection_interval(name=BRUSH, encodings=["x"]))
    )
    return chart


def _counts() -> alt.Axis:
    # One by one: a common prefix for all labels would make "0k" of zero.
    label = "format(datum.value, '~s')"
    return alt.Axis(tickCount=3, tickMinStep=1, domain=False, ticks=False, labelExpr=label)


def _hover(wide: pl.DataFrame, stacked: Sequence[Series]) -> alt.Chart:
    """Return an invisible band per bucket whose tooltip lists every series."""
    pointed = alt.selection_point(
        name="pointed", on="pointerover", clear="pointerout", empty=False, encodings=["x"]
    )
    lit = {"param": pointed.name, "empty": False, "value": 0.14}
    lines = [
        alt.Tooltip(field=f"s{index}", type="quantitative", title=title, format=",")
        for index, title in enumerate(_titles([one.name for one in stacked]))
    ]
    head = [alt.Tooltip("when:N", title="Time"), alt.Tooltip("total:Q", title="Events", format=",")]
    chart: alt.Chart = (
        alt.Chart(wide)
        .mark_rect(color="#64748b", clip=True)
        .encode(
            x=alt.X("start:T"),
            x2=alt.X2("end:T"),
            opacity=alt.OpacityValue(0, condition=lit),
            tooltip=[*head, *lines, *([uncovered.TOOLTIP] if "coverage" in wide.columns else [])],
        )
        .add_params(pointed)
    )
    return chart


def _titles(names: Iterable[str], most: int = 40) -> list[str]:
    """Return unique titles for a tooltip, without characters that could end Vega's string."""
    titles: list[str] = []
    for name in names:
        plain = escaping.vega(name)
        short = plain if len(plain) <= most else f"{plain[: most - 1]}…"
        titles.append(f"{short} ({len(titles)})" if short in (*titles, "Time", "Events") else short)
    return titles
