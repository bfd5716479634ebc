"""How many events say what, at one version of `events`: exact, and read from as little as will do.

Data files whose events all belong to a query are added up from the table `rollups`, by the very
files of the version; the others, those of today above all, are counted. Where a query asks what
no rollup can tell (its text, say), one reading of the events counts all that a page shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta

import polars as pl

from dashboard import fields, queries
from dashboard.queries import Query
from pipelines import rollup

_SHOWN = ("what", "who", "where")
"""The parts that a page of Explore needs, whatever is open on it."""
_SHORT = timedelta(days=3)
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_MIDNIGHT = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
_REMEMBERED = 4
_NEWEST, _KEPT = "newest", 2000
"""A reading for a text also keeps so many events, or the next one would look for them again."""

Read = Callable[[Sequence[str]], pl.LazyFrame]
"""The events that lie in these data files."""


class Counts:
    """Of the events in `files`, which are path, date, file, since, until and held.

    The last four are from the part "files" of `rollups`, and null for files it does not know.
    """

    def __init__(
        self, files: pl.DataFrame, read: Read, rollups: pl.LazyFrame, known: Collection[int]
    ) -> None:
        self._files = files
        self._read = read
        self._rollups = rollups
        self._known = known
        self._tally = functools.lru_cache(maxsize=_REMEMBERED)(self._counted)

    def rows(self, query: Query, *columns: str, tick: timedelta = _SECOND) -> pl.LazyFrame:
        """The events of `query` as date, `columns` and, in `n`, how many say so; not yet summed.

        `time`, where it is among the columns, is right to within the same `tick`.
        """
        if "time" in columns and not tick % _DAY:
            others = tuple(name for name in columns if name != "time")
            rows = self._rows(query, others, tick).with_columns(time=_MIDNIGHT)
        else:
            rows = self._rows(query, columns, tick)
        return rows.select("date", *columns, "n")

    def events(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame:
        """The events of `query`, on these days if they are given."""
        if query.text and days:
            newest = self._tally(query, _SHOWN)[_NEWEST]
            if newest.height < _KEPT or min(days) > newest.select(pl.col("date").min()).item():
                return newest.lazy().filter(pl.col("date").is_in(days))
        return self._scanned(query, days)

    def _scanned(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame:
        files = self._holding(query)
        if days is not None:
            files = files.filter(pl.col("date").is_in(days))
        return queries.matching(self._read(files["path"].to_list()), query)

    def _rows(self, query: Query, columns: tuple[str, ...], tick: timedelta) -> pl.LazyFrame:
        exact = "time" in columns
        part = _telling(query, columns)
        if part and (not exact or not tick % rollup.GRAIN):
            return self._added_up(query, part)
        part = rollup.part_of(columns or ("time",))
        if part and (not exact or not tick % _grain(query)):
            others = tuple(name for name in _SHOWN if not _telling(query, rollup.PARTS[name]))
            return self._tally(query, others if part in others else (part,))[part].lazy()
        return self._scanned(query).with_columns(n=pl.lit(1, pl.Int64))

    def _added_up(self, query: Query, part: str) -> pl.LazyFrame:
        files = self._files.filter(queries.dated(query))
        whole = files.filter(_inside(query))
        rest = files.join(whole, on="path", how="anti")["path"].to_list()
        columns = ["date", *rollup.PARTS.get(part, ()), "n"]
        rows = [self._of(part, whole["file"].to_list()).filter(*queries.kept(query.filters))]
        if rest:
            events = queries.matching(self._read(rest), query)
            rows.append(events.with_columns(n=pl.lit(1, pl.Int64)))
        return pl.concat(some.select(columns) for some in rows)

    def _of(self, part: str, files: list[int]) -> pl.LazyFrame:
        """The rows of a part that tell of these files."""
        rows = self._rollups.filter(pl.col("part") == part)
        if not files:
            return rows.filter(pl.lit(False))
        first, last = min(files), max(files)
        rows = rows.filter(pl.col("file").is_between(first, last))
        every = sum(first <= file <= last for file in self._known) == len(files)
        return rows if every else rows.filter(pl.col("file").is_in(files))

    def _counted(self, query: Query, parts: tuple[str, ...]) -> dict[str, pl.DataFrame]:
        """Some parts as if of the query's events alone, from one reading of them."""
        events = self._scanned(query)
        read = [rollup.counted(events, part, grain=_grain(query)) for part in parts]
        if query.text:
            parts += (_NEWEST,)
            read.append(events.top_k(_KEPT, by=["time", "event_uid"]))
        return dict(zip(parts, pl.collect_all(read, engine="streaming"), strict=True))

    def _holding(self, query: Query) -> pl.DataFrame:
        """The files of the query's days, without those known to hold nothing it asks for."""
        files = self._files.filter(queries.dated(query))
        for field in {wanted.field for wanted in query.filters if not wanted.negated}:
            part = rollup.part_of(fields.columns(field))
            if part:
                unknown = pl.col("file").is_null()
                files = files.filter(unknown | pl.col("file").is_in(self._with(query, field, part)))
        return files

    def _with(self, query: Query, field: str, part: str) -> list[int]:
        """The numbers of the files in which `field` says what the query wants of it."""
        wanted = [one for one in query.filters if one.field == field and not one.negated]
        rows = self._rollups.filter(pl.col("part") == part, queries.dated(query))
        found = rows.filter(*queries.kept(wanted)).select(pl.col("file").unique())
        return found.collect(engine="streaming")["file"].to_list()


def _telling(query: Query, columns: Collection[str]) -> str | None:
    """The part of `rollups` that tells of these columns for the query, if one does."""
    if query.text:
        return None
    asked = (fields.columns(wanted.field) for wanted in query.filters)
    return rollup.part_of({*columns}.union(*asked))


def _inside(query: Query) -> pl.Expr:
    """Do all events of the file belong to the query's span?"""
    inside = (pl.col("since") >= query.since) & (pl.col("until") < query.until)
    return (inside & (pl.col("held") < query.held) if query.held else inside).fill_null(False)


def _grain(query: Query) -> timedelta:
    return _SECOND if query.until - query.since <= _SHORT else rollup.GRAIN
