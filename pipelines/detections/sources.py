"""Read the rows that rules are evaluated on: raw records, and the events derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from pipelines import registry
from pipelines.detections.evaluate import Rows
from pipelines.detections.positions import Log
from pipelines.errors import ConfigurationError
from pipelines.lake import events as events_table
from pipelines.lake import identity_table, streams, tables
from pipelines.lake import raw as raw_table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.search.people import People


@dataclass(slots=True)
class Reader:
    """The streams of a lake, and the persons as they are known when it is first asked for rows."""

    lake: Lake
    _people: People | None = None
    _republished: dict[str, bool] = field(default_factory=dict)

    def logs(self, keys: Iterable[StreamKey] | None = None) -> list[Log]:
        """Return the streams, by default all that were polled."""
        kinds = {key: facts.kind for key, facts in streams.facts(self.lake).items()}
        wanted = sorted(kinds) if keys is None else list(dict.fromkeys(keys))
        return [Log(key=key, kind=kinds[key]) for key in wanted if key in kinds]

    def until(self, log: Log) -> int:
        """Return how many raw rows of a stream can be evaluated: those that have events."""
        stored = raw_table.position_only(self.lake, log.key).rows
        return min(stored, events_table.derived(self.lake, log.key)) if stored else 0

    def rows(self, log: Log, seqs: range) -> Rows:
        """Return the rows of a stream with these `seq`."""
        raw = raw_table.rows(self.lake, log.key, seqs.start, seqs.stop)
        found, _ = events_table.snapshot(self.lake, log.key)
        ours = found.filter(
            pl.col("date").is_in(raw["date"].unique().to_list()),
            pl.col("seq").is_between(seqs.start, seqs.stop, "left"),
        )
        return self.complete(log, raw, ours)

    def of_day(
        self, log: Log, day: date, since: datetime, until: datetime, most: int
    ) -> Iterator[Rows]:
        """Yield the rows of a day from `since` to before `until`, at most so many at once."""
        chosen = (
            pl.col("date") == day,
            pl.col("time").is_between(since, until, "left"),
            pl.col("seq") < self.until(log),
        )
        raw = tables.existing(self.lake, log.key.table).filter(*chosen)
        with tables.store_errors(log.key.table):
            seqs = raw.select("seq").collect()["seq"].sort()
        for offset in range(0, seqs.len(), most):
            part = seqs[offset : offset + most]
            ours = pl.col("seq").is_between(part[0], part[-1])
            with tables.store_errors(log.key.table):
                rows = raw.filter(ours).collect().sort("seq")
            found, _ = events_table.snapshot(self.lake, log.key)
            events = found.filter(pl.col("date") == day, ours)
            yield self.complete(log, rows, events.filter(pl.col("seq").is_in(part.implode())))

    def complete(self, log: Log, raw: pl.DataFrame, events: pl.LazyFrame) -> Rows:
        """Return raw rows and their events, with the persons that accounts belong to."""
        with tables.store_errors(events_table.TABLE.name):
            named = self.people().named(events).collect().sort("seq", "event_uid")
        return Rows(log=log, raw=raw, events=named, republished=self._is_republished(log))

    def people(self) -> People:
        if self._people is None:
            self._people = identity_table.read(self.lake)
        return self._people

    def _is_republished(self, log: Log) -> bool:
        if log.name not in self._republished:
            try:
                known = registry.kind(log.kind).streams(None)
            except ConfigurationError:  # of an integration that this auditlake does not have
                known = ()
            found = [stream for stream in known if stream.name == log.key.stream]
            self._republished[log.name] = any(stream.latest_of for stream in found)
        return self._republished[log.name]
