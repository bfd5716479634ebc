"""Exact counts over one version of `events`, from rollups where possible.

Data files that lie within a query's range are summed from the table `rollups`; the others, above
all today's, are counted. For a query that rollups cannot answer, such as a text search, one scan of
the events counts everything that a page shows.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl

from dashboard import fields, patience, queries, row_counts
from dashboard.exclusions import ByFile, Exclusions, Nowhere
from dashboard.queries import Query
from dashboard.sight import Door
from pipelines.lake import rollup, row_codes
from pipelines.schemas import TEXT_INDEX
from pipelines.search import compiler
from pipelines.search.people import NOBODY, PERSON, People

_SHOWN = ("what", "who", "where")
"""The parts of `rollups` that Explore needs, whichever panels are open."""
_BY_INTEGRATION = "what"
_SHORT = timedelta(days=3)
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_QUARTER = timedelta(minutes=15)
"""In every time zone, days and hours begin on a quarter of an hour."""
_MIDNIGHT = pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
# Searches whose scans stay cached; the panels of a page share one.
_REMEMBERED = 4
_PORTION = timedelta(days=60)
_READINGS = 8
"""Scans per query, at most; more of them would cost more than their conditions save."""
_AT_ONCE = 2_000_000
"""Rows of a search that are read without a chance to end it."""
_PLACE = "place"
_Key = tuple[frozenset[str], ...]


class Counts:
    """Counts over the data files `files`: path, date, rows, file, since, until and held.

    The last four come from the part "files" of `rollups`, null for files not rolled up yet. Events
    and counts of actors have the persons of `people`. `index` has rows of `text_index`.
    """

    def __init__(
        self,
        files: pl.DataFrame,
        door: Door,
        rollups: pl.LazyFrame,
        known: Collection[int],
        people: People = NOBODY,
        *,
        index: pl.LazyFrame | None = None,
    ) -> None:
        self._files = files
        self._sizes: dict[str, int] = dict(files.select("path", "rows").drop_nulls().iter_rows())
        self._door = door
        self.limited = door.sight.limited
        # Where nobody is known, a column of nulls would cost each question a tenth of its time.
        self._named = (lambda rows: rows) if people.unknown else people.named
        self._rollups = self._named(rollups)
        self._index = pl.LazyFrame(schema=TEXT_INDEX) if index is None else index
        self._exclusions = Exclusions(rollups, self._index)
        self._known = known
        self._people = people
        self._tally = functools.lru_cache(maxsize=_REMEMBERED)(self._count)
        self._known_of = functools.lru_cache(maxsize=_REMEMBERED)(self._look_up)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """The numbers of the files whose rows have codes, by path.

        None of them for limited visitors, since codes name no integration.
        """
        named = pl.col("part") == row_codes.CODES, pl.col("field").is_in(row_codes.PARTS)
        files = self._rollups.filter(*named).group_by("file").len()
        coded = files.filter(pl.col("len") == len(row_codes.PARTS))
        known = self._files.select("path", "file").drop_nulls()
        return dict(known.join(coded.collect(), on="file", how="semi").iter_rows())

    def since(self, earlier: Counts) -> Counts | None:
        """Return the counts over the files added since then; None if files were replaced."""
        if not earlier._files.join(self._files, on="path", how="anti").is_empty():
            return None
        added = self._files.join(earlier._files, on="path", how="anti")
        return Counts(
            added, self._door, self._rollups, self._known, self._people, index=self._index
        )

    def rows(self, query: Query, *columns: str, tick: timedelta = _SECOND) -> pl.LazyFrame:
        """Return date, `columns` and `n`, the number of events; a combination may occur repeatedly.

        `time`, if among the columns, is exact to within the same `tick`.
        """
        # Ticks of whole days, always of UTC, need no `time`: midnight of the date will do.
        if "time" in columns and not tick % _DAY:
            others = tuple(name for name in columns if name != "time")
            rows = self._rows(query, others, tick).with_columns(time=_MIDNIGHT)
        else:
            rows = self._rows(query, columns, tick)
        return rows.select(_columns("date", *columns, "n"))

    def sums(self, query: Query, value: pl.Expr, *columns: str) -> pl.LazyFrame:
        """Return (value, n), where `value` is an expression over `columns`.

        A value may occur repeatedly: portions of time are summed one by one, since all at once
        would take gigabytes of memory.
        """
        # Only rollups come in portions: a scan is cached for the whole range.
        portions = (
            _portions(query) if self._answering(query, columns) else [(query.since, query.until)]
        )
        sums = [
            self.rows(replace(query, since=since, until=until), *columns)
            .group_by(value=value)
            .agg(pl.col("n").sum())
            .collect(engine="streaming")
            for since, until in portions
        ]
        return pl.concat(sums).lazy()

    def rolled_up(self, field: str) -> pl.LazyFrame:
        """Return (value, n) from `rollups` alone: no event is read, and the newest are missing.

        Empty for a field that is not rolled up, or not by integration where the visitor may not see
        all of them; a value may occur repeatedly.
        """
        files = self._files["file"].drop_nulls().to_list()
        part = self._part(fields.columns(field))
        if part is None:
            return pl.LazyFrame(schema={"value": pl.String, "n": pl.Int64})
        if field == fields.TARGET:
            return self._of(rollup.WHOM, files).select("n", value="target_name")
        return self._of(part, files).select("n", value=fields.value(field)).select("value", "n")

    def targets(self, query: Query) -> pl.LazyFrame:
        """Return (value, n): each target and the number of events that have it, among others.

        An event without any target has the value null.
        """
        if query.text or query.filters or self.limited:
            found = [queries.collected(rollup.targets(part)) for part in self.parts(query)]
            return pl.concat(found).lazy()
        whole, rest = self._split(query)
        rows = [self._of(rollup.WHOM, whole).select("n", value="target_name")]
        if rest:
            counted = rollup.targets(queries.matching(self._read(rest), query))
            rows.append(counted.select("n", "value"))
        return pl.concat(rows)

    def events(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame:
        """Return the events of `query`, only those of `days` if given."""
        read = [
            queries.matching(self._read(paths), query, conditions)
            for paths, conditions in self._readings(query, days)
        ]
        return pl.concat(read) if read else self._read([])

    def _readings(
        self, query: Query, days: Collection[date] | None = None
    ) -> Iterator[tuple[list[str], list[pl.Expr]]]:
        """Yield the data files that may have events of `query`, with the conditions for them."""
        files, plain, nowhere = self._known_of(query)
        if days is not None:
            files = files.filter(pl.col("date").is_in(days))
        wanted = query.wanted()
        # Files with the same shortcuts share a scan; those that cannot match are not opened.
        for (plainly, *rest), paths in _grouped(files, [plain, *nowhere.values()]).items():
            lacking = dict(zip(nowhere, rest, strict=True))
            if not compiler.in_vain(wanted, lacking):
                conditions = [
                    *queries.kept(query.filters, plainly),
                    *compiler.expressions(wanted, lacking),
                ]
                yield paths, conditions

    def _look_up(self, query: Query) -> tuple[pl.DataFrame, ByFile, Nowhere]:
        """Return the files that may match, their plain fields, and which words they lack where."""
        files, plain = self._candidates(query)
        if not query.text:
            return files, plain, {}
        left, nowhere = self._exclusions.known(files, query.wanted())
        return left, plain, nowhere

    def _rows(self, query: Query, columns: tuple[str, ...], tick: timedelta) -> pl.LazyFrame:
        exact = "time" in columns
        part = self._answering(query, columns)
        # Rollups have `time` by the hour: they serve whole hours of UTC, not every zone's.
        if part and (not exact or not tick % rollup.GRAIN):
            return self._from_rollups(query, part)
        part = rollup.part_of(columns or ("time",))
        hourly = self._hourly(query) and not (exact and tick % rollup.GRAIN)
        grain = rollup.GRAIN if hourly else _grain(query)
        if part and (not exact or not tick % grain):
            # One cached scan for this panel and all others that rollups cannot serve.
            others = tuple(
                name for name in _SHOWN if not self._answering(query, rollup.readable(name))
            )
            tally = self._tally(query, others if part in others else (part,), grain)[part].lazy()
            # Of counts, not of events: there are far fewer of them.
            return self._named(tally) if part == rollup.WHO else tally
        return self.events(query).with_columns(n=pl.lit(1, pl.Int64))

    def _answering(self, query: Query, columns: Collection[str]) -> str | None:
        """Return the part of `rollups` with `columns` and those of the query's filters, if any."""
        # A part has the first target only, a filter compares all of them.
        if query.text or any(wanted.field == fields.TARGET for wanted in query.filters):
            return None
        filtered = (fields.columns(wanted.field) for wanted in query.filters)
        return self._part({*columns}.union(*filtered))

    def _part(self, columns: Collection[str]) -> str | None:
        """Return the part of `rollups` that counts these columns, for the visitor's integrations.

        For limited visitors it is the only one whose rows all name one integration.
        """
        if not self.limited:
            return rollup.part_of(columns)
        return _BY_INTEGRATION if {*columns} <= {*rollup.PARTS[_BY_INTEGRATION]} else None

    def _from_rollups(self, query: Query, part: str) -> pl.LazyFrame:
        whole, rest = self._split(query)
        columns = _columns("date", *rollup.readable(part), "n")
        rows = [self._of(part, whole).filter(*queries.kept(query.filters, counted=True))]
        if rest:
            events = queries.matching(self._read(rest), query)
            rows.append(events.with_columns(n=pl.lit(1, pl.Int64)))
        return pl.concat(some.select(columns) for some in rows)

    def _split(self, query: Query) -> tuple[list[int], list[str]]:
        """Return the files whose aggregates count, and the paths of those to be read instead.

        Those reach beyond the range, or are not rolled up yet.
        """
        files = self._files.filter(queries.dated(query))
        whole = files.filter(_inside(query))
        rest = files.join(whole, on="path", how="anti")
        return whole["file"].to_list(), rest["path"].to_list()

    def _read(self, paths: Sequence[str]) -> pl.LazyFrame:
        """Return the events in these data files."""
        return self._named(self._door.read(paths))

    def _of(self, part: str, files: list[int]) -> pl.LazyFrame:
        """Return the rows of `part` that belong to these files."""
        rows = self._rollups.filter(pl.col("part") == part)
        if not files:
            return rows.filter(pl.lit(False))
        # A range of numbers prunes better than a list, which only has to exclude others within it.
        first, last = min(files), max(files)
        rows = rows.filter(pl.col("file").is_between(first, last))
        every = sum(first <= file <= last for file in self._known) == len(files)
        return rows if every else rows.filter(pl.col("file").is_in(files))

    def _hourly(self, query: Query) -> bool:
        """Return whether it pays to count by hours, so that `rollups` can name the groups."""
        return bool(self._numbers) and query.until - query.since > _SHORT

    def _count(
        self, query: Query, parts: tuple[str, ...], grain: timedelta
    ) -> dict[str, pl.DataFrame]:
        """Return these parts over the query's events alone, from one scan of them.

        The scan goes through some data files at a time, so that it can end in between.
        """
        coded = grain == rollup.GRAIN and {*parts} <= {*row_codes.PARTS}
        inside = self._files.filter(_inside(query))["path"]
        whole = {path for path in inside if path in self._numbers} if coded else set[str]()
        divided = self._divided(query, whole)
        # Files with and without codes are apart even where one scan would do for both.
        rows = sum(self._sizes.get(path, _AT_ONCE) for _, paths, _ in divided for path in paths)
        counted = [
            self._count_by_codes(query, paths, conditions, parts)
            if known
            else self._count_by_values(query, paths, conditions, parts, grain)
            for known, paths, conditions in patience.each(divided, brief=rows < _AT_ONCE)
        ]
        return {
            part: pl.concat(each)
            for part, each in zip(parts, zip(*counted, strict=True), strict=True)
        }

    def _count_by_values(
        self,
        query: Query,
        paths: list[str],
        conditions: list[pl.Expr],
        parts: tuple[str, ...],
        grain: timedelta,
    ) -> list[pl.DataFrame]:
        """Return these parts over the query's events in these files, from one scan."""
        found = queries.matching(self._read(paths), query, conditions)
        counted = [rollup.counted(found, part, grain=grain) for part in parts]
        return pl.collect_all(counted, engine="streaming")

    def _count_by_codes(
        self, query: Query, paths: list[str], conditions: list[pl.Expr], parts: tuple[str, ...]
    ) -> list[pl.DataFrame]:
        """Return these parts over the query's events in files that lie in its range."""
        filters, rows = _on_groups(query), None
        if filters is None:
            numbered = self._named(self._door.read(paths, numbered=_PLACE))
            rows = queries.collected(numbered.filter(*conditions).select(_PLACE))[_PLACE]
        files = {self._numbers[path]: self._sizes[path] for path in paths}
        found = row_counts.counted(self._of, files, parts, filters or {}, rows)
        return [found[part] for part in parts]

    def parts(self, query: Query) -> Iterator[pl.LazyFrame]:
        """Yield the events of `query` in frames that read about _AT_ONCE rows each; at least one.

        A search that is cancelled ends between two of them.
        """
        found = [
            queries.matching(self._read(paths), query, conditions)
            for _, paths, conditions in self._divided(query)
        ]
        return patience.each(found)

    def sizes(self, query: Query) -> list[tuple[date, int]]:
        """Return the days that may have events of `query`, newest first, and rows to be read."""
        files = self._known_of(query)[0].group_by("date").agg(pl.col("rows").sum())
        return files.sort("date", descending=True).rows()

    def _divided(
        self, query: Query, chosen: Collection[str] = ()
    ) -> list[tuple[bool, list[str], list[pl.Expr]]]:
        """Return what `_readings` does, about _AT_ONCE rows at a time; at least one entry.

        Each has only files that are `chosen`, as its first value states, or only others.
        """
        found = [
            (inside, paths, conditions)
            for group, conditions in self._readings(query)
            for inside in (True, False)
            for paths in self._portions([path for path in group if (path in chosen) is inside])
        ]
        return found or [(False, [], [])]

    def _portions(self, paths: list[str]) -> Iterator[list[str]]:
        portion: list[str] = []
        rows = 0
        for path in paths:
            portion.append(path)
            rows += self._sizes.get(path, _AT_ONCE)
            if rows >= _AT_ONCE:
                yield portion
                portion, rows = [], 0
        if portion:
            yield portion

    def _candidates(self, query: Query) -> tuple[pl.DataFrame, ByFile]:
        """Return the files of the query's days that may match, and per file its plain fields.

        A field such as `actor` is the first non-empty of several columns. It is plain in a file
        where every wanted value is in the first of them, so that a filter reads no other.
        """
        files = self._files.filter(queries.dated(query))
        plain: dict[int, frozenset[str]] = {}
        for field in sorted({wanted.field for wanted in query.filters if not wanted.negated}):
            targets = field == fields.TARGET
            if part := self._part(fields.columns(field)):
                found = self._with(query, field, rollup.WHOM if targets else part)
                # A file that is not rolled up yet may contain anything.
                unknown = pl.col("file").is_null()
                files = files.filter(unknown | pl.col("file").is_in(list(found)))
                for file, first in found.items():
                    if first and not targets:
                        plain[file] = plain.get(file, frozenset()) | {field}
        return files, plain

    def _with(self, query: Query, field: str, part: str) -> dict[int, bool]:
        """Return the files with wanted values of `field`: are all of them in its first column?"""
        wanted = [one for one in query.filters if one.field == field and not one.negated]
        first = pl.col(fields.columns(field)[0]).is_in([one.value for one in wanted if one.value])
        rows = self._rollups.filter(pl.col("part") == part, queries.dated(query))
        found = (
            rows.filter(*queries.kept(wanted, counted=True))
            .group_by("file")
            # Null or another text there: the value came from a later column.
            .agg(first.fill_null(False).all().alias("first"))
        )
        return dict(found.collect(engine="streaming").iter_rows())


def _on_groups(query: Query) -> dict[str, list[pl.Expr]] | None:
    """Return the query as conditions on groups of `rollups`, by part; None if it needs more."""
    filters: dict[str, list[queries.Filter]] = {}
    for wanted in query.filters:
        part = rollup.part_of(fields.columns(wanted.field))
        # A group has the first target only, a filter compares all of them.
        if part not in row_codes.PARTS:
            return None
        filters.setdefault(part, []).append(wanted)
    if query.text:
        return None
    return {part: queries.kept(wanted, counted=True) for part, wanted in filters.items()}


def _grouped(files: pl.DataFrame, known: Sequence[ByFile]) -> dict[_Key, list[str]]:
    """Group the paths of files by the facts known of each; the smallest groups are merged."""
    groups: dict[_Key, list[str]] = {}
    for path, file in files.select("path", "file").iter_rows():
        key = tuple(one.get(file, frozenset()) for one in known)
        groups.setdefault(key, []).append(path)
    many = sorted(groups, key=lambda key: len(groups[key]), reverse=True)
    rare = many[_READINGS - 1 :] if len(many) > _READINGS else []
    if rare:
        # Only knowledge common to all of the merged files holds for each of them.
        shared = tuple(frozenset.intersection(*sets) for sets in zip(*rare, strict=True))
        paths = [path for key in rare for path in groups.pop(key)]
        groups.setdefault(shared, []).extend(paths)
    return groups


def _portions(query: Query) -> Iterator[tuple[datetime, datetime]]:
    """Split the query's range at midnights: a data file never spans two days."""
    since = query.since
    while since < query.until:
        midnight = (since + _PORTION).replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(max(midnight, since + _SECOND), query.until)
        yield since, until
        since = until


def _columns(*names: str) -> list[pl.Expr]:
    """Return these columns; without `person` where nobody is known."""
    return [pl.col(f"^{PERSON}$" if name == PERSON else name) for name in names]


def _inside(query: Query) -> pl.Expr:
    """Select the files whose events all lie in the query's range."""
    inside = (pl.col("since") >= query.since) & (pl.col("until") < query.until)
    # Files that are not rolled up have no bounds: null, which counts as no.
    return (inside & (pl.col("held") < query.held) if query.held else inside).fill_null(False)


def _grain(query: Query) -> timedelta:
    return _SECOND if query.until - query.since <= _SHORT else _QUARTER
