"""The dashboard's queries on `events`: pure, and returning no more rows than are shown.

They filter with `matching` by the partition's `date` as well as `time`, so that Polars reads only
the days in the range.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, Protocol, Self

import polars as pl

from dashboard import fields, times
from pipelines.lake import rollup
from pipelines.search import compiler, parser
from pipelines.search.fields import TIMES
from pipelines.search.people import ACTOR, NOBODY, People
from pipelines.search.terms import Node

PAGE = 500
OTHER = -1  # the series of all values that are not among the top
_N = pl.col("n").sum()
_FEW = 20_000
"""Values that are compared again after their hashes, at most."""
# Keeps memory bounded on long ranges.
_ENGINE: Literal["streaming"] = "streaming"
ROW: tuple[str, ...] = (
    "title",
    "integration",
    "activity_type",
    "action",
    "actor",
    "target",
    "outcome",
    "source_ip",
    "country",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    field: str
    value: str  # "" means that there is no value
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    since: datetime
    until: datetime
    text: str = ""
    filters: tuple[Filter, ...] = ()
    held: datetime | None = None
    """Only events that had arrived by then."""
    people: People = field(default=NOBODY, repr=False, compare=False)

    def without(self, field: str) -> Query:
        """Return the query without the filters on `field`, to list all of its values."""
        return replace(self, filters=tuple(f for f in self.filters if f.field != field))

    def resolved(self, people: People) -> Query:
        """Return the query in which an account of a person stands for the address as well."""
        added = (
            replace(one, value=address)
            for one in self.filters
            if one.field == ACTOR
            for address in people.addresses([one.value])
        )
        return replace(self, people=people, filters=(*self.filters, *added))

    def wanted(self) -> Node:
        """Return the text as a tree. Raises SearchError."""
        return self.people.resolved(parser.parse(self.text))


class Counts(Protocol):
    """The events of one version and counts over them; dashboard.counts has the real one."""

    def rows(self, query: Query, *columns: str, tick: timedelta = ...) -> pl.LazyFrame: ...

    def sums(self, query: Query, value: pl.Expr, *columns: str) -> pl.LazyFrame: ...

    def targets(self, query: Query) -> pl.LazyFrame: ...

    def events(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame: ...

    def parts(self, query: Query) -> Iterator[pl.LazyFrame]: ...

    def sizes(self, query: Query) -> list[tuple[date, int]]: ...

    def since(self, earlier: Any) -> Self | None: ...


def matching(
    events: pl.LazyFrame, query: Query, conditions: Iterable[pl.Expr] | None = None
) -> pl.LazyFrame:
    """Return the events of `query`; cheaper `conditions` may replace its filters and text."""
    if conditions is None:
        conditions = [*kept(query.filters), *compiler.expressions(query.wanted())]
    return events.filter(
        dated(query),
        pl.col("time") >= query.since,
        pl.col("time") < query.until,
        *([pl.col("ingested_at") < query.held] if query.held else []),
        *conditions,
    )


def dated(query: Query) -> pl.Expr:
    """Select the dates (UTC) that the query's range touches."""
    # `until` is excluded: midnight belongs to the next day, which need not be read.
    last = query.until - timedelta(microseconds=1)
    return pl.col("date").is_between(query.since.date(), last.date())


def concerned(query: Query, streams: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `streams` whose events the query may match.

    Its columns have the names and values that they have in `events`, such as `integration`.
    """
    filters = [f for f in query.filters if {*fields.columns(f.field)} <= {*streams.columns}]
    text = compiler.possible(parser.parse(query.text), streams.columns)
    return streams.filter(text, *kept(filters))


def added(counts: Counts, query: Query, earlier: Counts) -> int | None:
    """Return how many events of the query are new since an earlier version.

    None if that cannot be counted, since files of that version were replaced.
    """
    new = counts.since(earlier)
    return None if new is None else sum(n for _, n in days(new, query))


Days = tuple[tuple[date, int], ...]


def days(counts: Counts, query: Query) -> Days:
    """Return each day that has events and their number, newest first."""
    counted = counts.rows(query).group_by("date").agg(_N)
    return tuple(collected(counted.sort("date", descending=True)).iter_rows())


def page(
    counts: Counts, query: Query, number: int, counted: Days, names: Sequence[str] = ROW
) -> pl.DataFrame:
    """Return these fields of page `number`, from 1, newest first; reads only its days."""
    first = (number - 1) * PAGE
    return newest(counts, query, counted, names, start=first, stop=first + PAGE)


def newest(
    counts: Counts, query: Query, counted: Days, names: Sequence[str], *, start: int, stop: int
) -> pl.DataFrame:
    """Return the events from place `start`, 0 for the newest, up to `stop`, newest first."""
    touched, skipped = _days_between(start, stop, counted)
    rows = listed(counts.events(query, touched), names)
    found = rows.sort("time", "event_uid", descending=True)
    return collected(found.slice(start - skipped, max(0, stop - start)))


def listed(events: pl.LazyFrame, names: Sequence[str] = ROW) -> pl.LazyFrame:
    """Return these fields as text, and the identity of each event: event_uid, date and time."""
    known = ("event_uid", "date", "time")
    return events.select(*known, *(shown(name) for name in names if name not in known))


def shown(name: str) -> pl.Expr:
    """Return a field as the table shows it: a time, or text."""
    return pl.col(name) if name in TIMES else fields.value(name)


def nearest(events: pl.LazyFrame, query: Query, instant: datetime, most: int = 200) -> pl.DataFrame:
    """Return the matching events nearest to `instant`, newest first."""
    return (
        listed(matching(events, query))
        .bottom_k(most, by=(pl.col("time") - instant).abs())
        .sort("time", "event_uid", descending=True)
        .collect()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    events: int
    actors: int
    addresses: int
    unsuccessful: int


def summary(counts: Counts, query: Query) -> Summary:
    failed = pl.col("n").filter(pl.col("outcome") == "failure").sum()
    # Collected together, so that Polars shares their scans.
    totals, actors, addresses = pl.collect_all(
        [
            counts.rows(query, "outcome").select(pl.col("n").sum(), failed=failed),
            *(_distinct(counts, query, field) for field in ("actor", "source_ip")),
        ],
        engine=_ENGINE,
    )
    events, unsuccessful = totals.row(0)
    return Summary(
        events=events,
        actors=actors.item(),
        addresses=addresses.item(),
        unsuccessful=unsuccessful,
    )


def values(counts: Counts, query: Query, field: str, most: int, part: str = "") -> pl.DataFrame:
    """Return the values of `field` and their numbers of events, most frequent first: value, n.

    If `part` is given, only those that contain it, in any case.
    """
    found = pl.col("value").str.to_lowercase().str.contains(part.lower(), literal=True)
    targets = field == fields.TARGET
    sums = counts.targets(query) if targets else _sums(counts, query, field)
    frequent = _most_frequent_of_many if targets else _most_frequent
    return frequent(sums.filter(found) if part else sums, most)


def stacked(counts: Counts, query: Query, field: str, most: int) -> pl.DataFrame:
    """Return what `values` does, but an event with several targets counts for the first only.

    So the numbers add up to those of the events, as a stacked graph needs.
    """
    return _most_frequent(_sums(counts, query, field), most)


def activity(
    counts: Counts,
    query: Query,
    field: str,
    top: tuple[str, ...],
    edges: tuple[datetime, ...],
) -> pl.DataFrame:
    """Return events per bucket and series: start, series (index in `top`, or OTHER), n."""
    # Summed per tick first, so that few rows have to be matched to buckets.
    tick = times.tick(edges)
    start, value = pl.col("time").dt.truncate(tick), fields.value(field).fill_null("")
    rows = counts.rows(query, "time", *fields.columns(field), tick=tick)
    if rollup.part_of(("time", *fields.columns(field))):
        summed = rows.group_by(start=start, series=_place(value, top)).agg(_N)
    else:
        # Values such as actors are many: all but those at the top are the rest of the totals.
        chosen = rows.select("n", start=start, value=value).filter(pl.col("value").is_in(top))
        each = chosen.group_by("start", "value").agg(_N)
        listed = collected(each.select("start", "n", series=_place(pl.col("value"), top))).lazy()
        totals = counts.rows(query, "time", tick=tick).group_by(start=start).agg(_N)
        less = listed.select("start", n=-pl.col("n"))
        others = pl.concat([totals, less]).with_columns(series=pl.lit(OTHER, pl.Int8))
        summed = pl.concat([listed, others.select("start", "n", "series")])
    return collected(
        summed.sort("start")
        # The last bucket that starts at or before the tick.
        .join_asof(_starts(edges), left_on="start", right_on="bucket", coalesce=False)
        .group_by(start="bucket", series="series")
        .agg(_N)
        .filter(pl.col("n") > 0)
        .sort("start", "series")
    )


def _place(value: pl.Expr, top: Sequence[str]) -> pl.Expr:
    return value.replace_strict(
        list(top), list(range(len(top))), default=OTHER, return_dtype=pl.Int8
    )


OF_COUNTS: frozenset[Callable[..., Any]] = frozenset(
    {days, added, page, summary, values, stacked, activity}
)
"""The queries that take the counts of a version; all others take its events."""


def event(events: pl.LazyFrame, day: date, uid: str) -> dict[str, Any] | None:
    """Return every column of one event; None if it does not exist."""
    found = events.filter(pl.col("date") == day, pl.col("event_uid") == uid).head(1).collect()
    return found.row(0, named=True) if found.height else None


def rejected(rows: pl.LazyFrame) -> dict[tuple[str, str], int]:
    """Return the number of rejected records per stream; `rows` are of `rejected`."""
    counted = rows.group_by("integration", "stream").agg(n=pl.len()).collect()
    return {(integration, stream): n for integration, stream, n in counted.iter_rows()}


def newest_rejected(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return the newest 50 rejected records, without their content."""
    shown = rows.select("integration", "stream", "ingested_at", "reason", "raw_sha256")
    return shown.sort("ingested_at", descending=True).head(50).collect()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushes:
    """Pushed events of a stream compared with polled ones."""

    polled: int
    both: int
    unconfirmed: int


def pushes(rows: pl.LazyFrame, since: date) -> dict[tuple[str, str], Pushes]:
    """Return the sums since that day per pushed stream; `rows` are of `reconciliation`."""
    sums = ("polled", "both", "unconfirmed")
    counted = (
        rows.filter(pl.col("date") >= since)
        .group_by("integration", "stream")
        .agg(pl.col(*sums, "pushed").sum())
        .filter(pl.col("pushed") > 0)
        .collect()
    )
    return {
        (row["integration"], row["stream"]): Pushes(**{name: row[name] for name in sums})
        for row in counted.iter_rows(named=True)
    }


def newest_push(rows: pl.LazyFrame, since: date) -> datetime | None:
    """Return when a raw table last received a pushed record."""
    pushed = rows.filter(pl.col("date") >= since, pl.col("via") == "webhook")
    found: datetime | None = pushed.select(pl.col("ingested_at").max()).collect().item()
    return found


def collected(rows: pl.LazyFrame) -> pl.DataFrame:
    """Return the rows, read by the engine that keeps memory bounded."""
    return rows.collect(engine=_ENGINE)


def _sums(counts: Counts, query: Query, field: str) -> pl.LazyFrame:
    return counts.sums(query, fields.value(field), *fields.columns(field))


def _most_frequent(sums: pl.LazyFrame, most: int) -> pl.DataFrame:
    return collected(
        sums.group_by(pl.col("value").fill_null(""))
        .agg(_N)
        .sort(["n", "value"], descending=[True, False])
        .head(most)
    )


def _most_frequent_of_many(sums: pl.LazyFrame, most: int) -> pl.DataFrame:
    """Return what `_most_frequent` does, at about half of its cost if values are many.

    The sum of a hash is that of its values, so no value with a smaller one is among the first.
    """
    hashed = sums.select("value", "n", key=_hash(pl.col("value").fill_null("")))
    every = collected(hashed.group_by("key").agg(_N))
    keys = every.filter(pl.col("n") >= pl.col("n").top_k(most).min())
    if keys.height > _FEW:  # many values are equally frequent
        return _most_frequent(sums, most)
    chosen = collected(hashed.join(keys.lazy(), on="key", how="semi")).lazy()
    values = chosen.select(pl.col("value").fill_null("").n_unique()).collect().item()
    # Only where two of these values share a hash, others may be more frequent than one of them.
    return _most_frequent(chosen if values == keys.height else sums, most)


def _hash(value: pl.Expr) -> pl.Expr:
    return value.hash()


def _distinct(counts: Counts, query: Query, field: str) -> pl.LazyFrame:
    values = counts.rows(query, *fields.columns(field)).select(fields.value(field))
    return values.drop_nulls().select(pl.col(field).n_unique())


def _days_between(start: int, stop: int, counted: Days) -> tuple[list[date], int]:
    """Return the days of the events from place `start` to `stop`, and how many are newer."""
    touched, skipped, seen = [], 0, 0
    for day, n in counted:
        if seen + n <= start:
            skipped = seen + n
        elif seen < stop:
            touched.append(day)
        seen += n
    return touched, skipped


def kept(
    filters: Iterable[Filter], plain: Collection[str] = (), *, counted: bool = False
) -> list[pl.Expr]:
    """Return one expression per field and sense: any of the wanted values, none of the unwanted.

    For `plain` fields, the wanted values are known to be in the first column alone. Rows that are
    `counted` have one target each.
    """
    groups: dict[tuple[str, bool], list[str]] = {}
    for wanted in filters:
        groups.setdefault((wanted.field, wanted.negated), []).append(wanted.value)
    return [
        pl.col(fields.columns(field)[0]).is_in([text for text in values if text])
        if field in plain and not negated
        else _among(field, values, negated=negated, counted=counted)
        for (field, negated), values in groups.items()
    ]


def _among(field: str, values: list[str], *, negated: bool, counted: bool) -> pl.Expr:
    texts = [text for text in values if text]
    some = fields.value(field).is_in(texts) if counted else fields.among(field, texts)
    found = some.fill_null("" in values)
    return found.not_() if negated else found


def _starts(edges: tuple[datetime, ...]) -> pl.LazyFrame:
    starts = pl.Series("bucket", edges[:-1], dtype=pl.Datetime("us", "UTC"))
    return starts.to_frame().lazy()
