"""Streams that answer well but return far fewer events than usual at this hour of the week."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

import polars as pl

from pipelines.lake import spans, stream_state, tables
from pipelines.lake.stream_state import KEY, History
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.pages import Span

_HOUR = timedelta(hours=1)
_WEEK = timedelta(weeks=1)
_WEEKS = 4
_HOURS = 2
"""Complete hours that are looked at; each of them has to be silent."""
_USUAL = 20
"""Where fewer events are usual in an hour, their number means nothing."""
_SHARE = 0.1
_DELAY = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """A silent stream, and its figures for the hours looked at."""

    key: StreamKey
    since: datetime
    count: int
    usual: float
    of: frozenset[str]
    """The integration and its kind."""


def streams(lake: Lake, histories: Mapping[StreamKey, History], now: datetime) -> Iterator[Silent]:
    """Yield the silent streams among those that answer."""
    checked = {
        key: hours
        for key, history in histories.items()
        if stream_state.state(history, now).name == "up to date" and (hours := _hours(history, now))
    }
    if not checked:
        return
    counts = _counts(lake, {hour for hours in checked.values() for hour in hours})
    for key, hours in checked.items():
        found = {hour: counts.get((*key, hour), 0) for hour in hours}
        usual = {
            hour: median(counts.get((*key, hour - n * _WEEK), 0) for n in range(1, _WEEKS + 1))
            for hour in hours
        }
        if is_silent(list(found.values()), list(usual.values())):
            yield Silent(
                key=key,
                since=hours[0],
                count=sum(found.values()),
                usual=sum(usual.values()),
                of=frozenset({key.integration, histories[key].facts.kind}),
            )


def is_silent(counts: list[int], usual: list[float]) -> bool:
    """Return whether every hour stays far below the usual number of events."""
    return all(
        often >= _USUAL and count < _SHARE * often
        for count, often in zip(counts, usual, strict=True)
    )


def _hours(history: History, now: datetime) -> list[datetime]:
    """Return the last complete hours; none unless they were fetched completely."""
    settled = now - history.facts.lag - _DELAY
    end = settled.replace(minute=0, second=0, microsecond=0)
    whole = Span(since=end - _HOURS * _HOUR, until=end)
    if spans.minus([whole], stream_state.coverage(history, now).complete):
        return []
    return [whole.since + n * _HOUR for n in range(_HOURS)]


def _counts(lake: Lake, hours: set[datetime]) -> dict[tuple[str, str, datetime], int]:
    """Return the number of events per stream and hour, of these hours and those weeks before."""
    events = tables.scan(lake, "events")
    if events is None:
        return {}
    wanted = sorted({hour - n * _WEEK for hour in hours for n in range(_WEEKS + 1)})
    with tables.store_errors("events"):
        counted = (
            events.filter(
                pl.col("date").is_in(sorted({hour.date() for hour in wanted})),
                pl.any_horizontal(
                    pl.col("time").is_between(hour, hour + _HOUR, closed="left") for hour in wanted
                ),
            )
            .group_by(*KEY, pl.col("time").dt.truncate("1h").alias("hour"))
            .len()
            .collect()
        )
    return {(one, two, hour): count for one, two, hour, count in counted.iter_rows()}
