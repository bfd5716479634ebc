"""How many events say what, at one version of `events`: exact, and read from as little as will do.

Data files whose events all belong to a query are added up from the table `rollups`, by the very
files of the version; the others, those of today above all, are counted. Where a query asks what
no rollup can tell (its text, say), one reading of the events counts all that a page shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl

from dashboard import fields, queries, search
from dashboard.queries import Query
from dashboard.search import Word
from pipelines.lake import rollup

_SHOWN = ("what", "who", "where")
"""The parts that a page of Explore needs, whatever is open on it."""
_SHORT = timedelta(days=3)
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_QUARTER = timedelta(minutes=15)
"""Every zone's days and hours begin on one."""
_MIDNIGHT = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
_REMEMBERED = 4
_PORTION = timedelta(days=60)
_READINGS = 8
"""So many different searches of files at once, at most; more would cost more than they spare."""
_Told = Mapping[int, frozenset[str]]
_Key = tuple[frozenset[str], ...]

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

    def sums(self, query: Query, said: pl.Expr, *columns: str) -> pl.LazyFrame:
        """How many events say what (value, n), in portions of time: at once it takes gigabytes.

        `said` is made of these columns; a value may be in several portions.
        """
        portions = _portions(query) if _telling(query, columns) else [(query.since, query.until)]
        sums = [
            self.rows(replace(query, since=since, until=until), *columns)
            .group_by(value=said)
            .agg(pl.col("n").sum())
            .collect(engine="streaming")
            for since, until in portions
        ]
        return pl.concat(sums).lazy()

    def events(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame:
        """The events of `query`, on these days if they are given."""
        files, plain = self._holding(query)
        if days is not None:
            files = files.filter(pl.col("date").is_in(days))
        terms = search.parse(query.text)
        told = {word: self._nowhere(word, query) for word in search.free(terms)}
        read = []
        for (plainly, *rest), paths in _grouped(files, [plain, *told.values()]).items():
            nowhere = dict(zip(told, rest, strict=True))
            if not search.in_vain(terms, nowhere):
                said = [
                    *queries.kept(query.filters, plainly),
                    *search.expressions(terms, nowhere),
                ]
                read.append(queries.matching(self._read(paths), query, said))
        return pl.concat(read) if read else self._read([])

    def _rows(self, query: Query, columns: tuple[str, ...], tick: timedelta) -> pl.LazyFrame:
        exact = "time" in columns
        part = _telling(query, columns)
        if part and (not exact or not tick % rollup.GRAIN):
            return self._added_up(query, part)
        part = rollup.part_of(columns or ("time",))
        if part and (not exact or not tick % _grain(query)):
            others = tuple(name for name in _SHOWN if not _telling(query, rollup.PARTS[name]))
            return self._tally(query, others if part in others else (part,))[part].lazy()
        return self.events(query).with_columns(n=pl.lit(1, pl.Int64))

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
        events = self.events(query)
        read = [rollup.counted(events, part, grain=_grain(query)) for part in parts]
        return dict(zip(parts, pl.collect_all(read, engine="streaming"), strict=True))

    def _holding(self, query: Query) -> tuple[pl.DataFrame, _Told]:
        """The files of the query's days, without those known to hold nothing it asks for.

        And the fields that a filter can read in their first column alone.
        """
        files = self._files.filter(queries.dated(query))
        plain: dict[int, frozenset[str]] = {}
        for field in sorted({wanted.field for wanted in query.filters if not wanted.negated}):
            part = rollup.part_of(fields.columns(field))
            if part:
                found = self._with(query, field, part)
                unknown = pl.col("file").is_null()
                files = files.filter(unknown | pl.col("file").is_in(list(found)))
                for file, first in found.items():
                    if first:
                        plain[file] = plain.get(file, frozenset()) | {field}
        return files, plain

    def _with(self, query: Query, field: str, part: str) -> dict[int, bool]:
        """The files in which `field` says what the query wants of it, and: in its first column?"""
        wanted = [one for one in query.filters if one.field == field and not one.negated]
        first = pl.col(fields.columns(field)[0]).is_in([one.value for one in wanted if one.value])
        rows = self._rollups.filter(pl.col("part") == part, queries.dated(query))
        found = (
            rows.filter(*queries.kept(wanted))
            .group_by("file")
            .agg(first.fill_null(False).all().alias("first"))
        )
        return dict(found.collect(engine="streaming").iter_rows())

    def _nowhere(self, word: Word, query: Query) -> _Told:
        """Of each file the columns that do not hold the word, as far as `rollups` can tell."""
        grams = () if "*" in word.text and not word.quoted else sorted(rollup.grams(word.text))
        if not grams:
            return {}
        lacking = pl.any_horizontal(
            pl.col("grams").str.contains(gram, literal=True).not_() for gram in grams
        )
        rows = self._rollups.filter(pl.col("part") == rollup.TEXTS, queries.dated(query))
        found = rows.filter(lacking).group_by("file").agg("field").collect(engine="streaming")
        return {file: frozenset(names) for file, names in found.iter_rows()}


def _grouped(files: pl.DataFrame, told: Sequence[_Told]) -> dict[_Key, list[str]]:
    """The paths of the files of which the same is told; of all that are rare, what is common."""
    groups: dict[_Key, list[str]] = {}
    for path, file in files.select("path", "file").iter_rows():
        key = tuple(known.get(file, frozenset()) for known in told)
        groups.setdefault(key, []).append(path)
    many = sorted(groups, key=lambda key: len(groups[key]), reverse=True)
    rare = many[_READINGS - 1 :] if len(many) > _READINGS else []
    if rare:
        shared = tuple(frozenset.intersection(*sets) for sets in zip(*rare, strict=True))
        paths = [path for key in rare for path in groups.pop(key)]
        groups.setdefault(shared, []).extend(paths)
    return groups


def _portions(query: Query) -> Iterator[tuple[datetime, datetime]]:
    """The span of the query in portions that part at midnight, as files do."""
    since = query.since
    while since < query.until:
        midnight = (since + _PORTION).replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(max(midnight, since + _SECOND), query.until)
        yield since, until
        since = until


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
    return _SECOND if query.until - query.since <= _SHORT else _QUARTER
