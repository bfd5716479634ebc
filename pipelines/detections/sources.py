"""Read the rows that rules are evaluated on: raw records, and the events derived from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from pipelines import registry
from pipelines.detections.evaluate import Rows
from pipelines.detections.positions import Log
from pipelines.errors import ConfigurationError
from pipelines.lake import events as events_table
from pipelines.lake import identity_table, look, streams, tables
from pipelines.lake.look import Look
from pipelines.lake.tables import Lake, StreamKey
from pipelines.search.people import People


@dataclass(slots=True)
class Reader:
    """The streams and persons of a lake as they are known at its first use."""

    lake: Lake
    _people: People | None = None
    _kinds: dict[StreamKey, str] | None = None
    _republished: dict[str, bool] = field(default_factory=dict)

    def logs(self, keys: Iterable[StreamKey] | None = None) -> list[Log]:
        """Return the streams, by default all that were polled."""
        if self._kinds is None:
            self._kinds = {key: facts.kind for key, facts in streams.facts(self.lake).items()}
        kinds = self._kinds
        wanted = sorted(kinds) if keys is None else list(dict.fromkeys(keys))
        return [Log(key=key, kind=kinds[key]) for key in wanted if key in kinds]

    def until(self, log: Log, seen: Look | None = None) -> int:
        """Return how many raw rows of a stream can be evaluated: those that have events."""
        if seen is None:
            with look.look(self.lake) as now:
                return self.until(log, now)
        derived = seen.fence(events_table.TABLE.name, log.key.app)
        return min(seen.fence(log.key.table, log.key.app), derived) if derived else 0

    def stored(self, logs: Iterable[Log], seen: Look) -> dict[StreamKey, int]:
        """Return `until` of several streams."""
        return {log.key: self.until(log, seen) for log in logs}

    def rows(self, seen: Look, wanted: Sequence[tuple[Log, range]]) -> list[Rows]:
        """Return the rows of different streams with these `seq`, at the versions of a look."""
        raw = {log.key: seen.raw(log.key, seqs) for log, seqs in wanted}
        chosen = {log.key: (seqs, raw[log.key]["date"]) for log, seqs in wanted}
        found = self._named(seen.events(chosen))
        parts = found.partition_by("integration", "stream", as_dict=True, maintain_order=True)
        return [
            self._complete(log, raw[log.key], parts.get((*log.key,), found.clear()))
            for log, _ in wanted
        ]

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
            of_rows = events.filter(pl.col("seq").is_in(part.implode()))
            yield self._complete(log, rows, self._named(of_rows))

    def _complete(self, log: Log, raw: pl.DataFrame, events: pl.DataFrame) -> Rows:
        return Rows(log=log, raw=raw, events=events, republished=self._is_republished(log))

    def _named(self, events: pl.LazyFrame) -> pl.DataFrame:
        """Return events in the order of rows, with the persons that accounts belong to."""
        with tables.store_errors(events_table.TABLE.name):
            return self.people().named(events).collect().sort("seq", "event_uid")

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
