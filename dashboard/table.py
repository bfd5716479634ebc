"""The columns of the table of events, and how their texts are worded and shortened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipelines import visible
from pipelines.search.fields import TIMES

USUAL = ("time", "integration", "activity_type", "title", "actor", "outcome", "source_ip", "target")
NEXT_TO_DETAILS = USUAL[:-2]
"""The usual columns next to an open event, whose details have the others."""

_WIDTHS = {
    "time": 118,
    "ingested_at": 118,
    "integration": 120,
    "activity_type": 150,
    "title": 240,
    "actor": 190,
    "outcome": 90,
    "source_ip": 120,
    "target": 200,
}
_PADDING, _CHARACTER = 18, 5.8  # pixels; of a character, the mean in the theme's font
_ACTOR = ("actor_email", "actor_name", "actor_id")
_WHOLE = ("outcome", *TIMES)
"""Columns that are never shortened: the values of one have colours, the others are no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Rows as the table shows them."""

    rows: pl.DataFrame
    whole: Mapping[int, str]
    """The texts that are shortened, as `whole` returns them."""


def width(name: str) -> int:
    """Return the width of a column in pixels."""
    return _WIDTHS.get(name, 140)


def moved(columns: Sequence[str], name: str, by: int) -> tuple[str, ...]:
    """Return the columns with one of them moved to the left (-1) or right (1)."""
    others = [each for each in columns if each != name]
    others.insert(max(0, columns.index(name) + by), name)
    return tuple(others)


def fetched(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the fields to read for these columns."""
    more = _ACTOR if _repeats_actor(columns) else ()
    return tuple(dict.fromkeys((*columns, *more)))


def shown(rows: pl.DataFrame, columns: Sequence[str]) -> Shown:
    """Return these columns of rows that have the fields that `fetched` names."""
    marked = visible.frame(rows.select(fetched(columns)))
    made = presented(marked, columns).select(columns)
    return Shown(rows=made, whole=whole(marked, made))


def presented(rows: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return rows whose texts fit these columns and do not repeat the actor.

    `rows` have the fields that `fetched` names.
    """
    if _repeats_actor(columns):
        rows = rows.with_columns(title=_without_actor())
    texts = [name for name in columns if name not in _WHOLE and name in rows.columns]
    return rows.with_columns(_shortened(name) for name in texts)


def whole(rows: pl.DataFrame, shown: pl.DataFrame) -> dict[int, str]:
    """Return the texts that `shown` has shortened, by row, one per line."""
    cut = {
        name: shown[name].str.ends_with("…") & (shown[name] != rows[name])
        for name in shown.columns
        if shown[name].dtype == pl.String and name in rows.columns and name not in _WHOLE
    }
    texts: dict[int, list[str]] = {}
    for name, flags in cut.items():
        for row in flags.arg_true():
            texts.setdefault(row, []).append(rows[name][row])
    return {row: "\n".join(lines) for row, lines in sorted(texts.items())}


def _repeats_actor(columns: Sequence[str]) -> bool:
    return {"title", "actor"} <= {*columns}


def _without_actor() -> pl.Expr:
    """Return the title without the actor at its start: "Ada opened a file" as "Opened a file"."""
    title = pl.col("title")
    rest = pl.coalesce(
        pl.when(title.str.starts_with(pl.col(name) + " ")).then(
            title.str.strip_prefix(pl.col(name) + " ")
        )
        for name in _ACTOR
    )
    return pl.coalesce(rest.str.head(1).str.to_uppercase() + rest.str.slice(1), title)


def _shortened(name: str) -> pl.Expr:
    most = int((width(name) - _PADDING) / _CHARACTER)
    text = pl.col(name)
    short = text.str.head(most - 1).str.strip_chars_end() + "…"
    return pl.when(text.str.len_chars() > most).then(short).otherwise(text).alias(name)
