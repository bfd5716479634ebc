"""When the lake could not see: spans of event time in which a stream's answer is not whole. Pure.

"Nothing happened" and "nobody asked" must never look the same. A span counts as seen from the
moment it was asked for and answered; the rows are those of `coverage` (pipelines.schemas.COVERAGE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import polars as pl

from pipelines.lake import spans
from pipelines.sdk.pages import Span

_LEAST = timedelta(seconds=2)  # vendors' clocks are coarse
_QUIET = timedelta(hours=1)  # a stream without news may be noted this seldom
_NOT_ASKED = "not asked for yet"
_EARLIER = "before what was asked for"

Log = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span that one stream does not show wholly, and why."""

    since: datetime
    until: datetime
    log: Log
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What `coverage` says of each stream."""

    seen: dict[Log, tuple[Span, ...]]
    faults: dict[Log, tuple[tuple[Span, datetime, str], ...]]
    asked_at: dict[Log, datetime]
    """When each stream was asked last."""
    every: dict[Log, timedelta]
    """How long it usually is between two questions of the newest hundred."""

    def blind(self, log: Log, since: datetime, until: datetime) -> list[Gap]:
        """The spans from `since` to `until` in which the stream does not show all."""
        unseen = spans.minus([Span(since=since, until=until)], self.seen.get(log, ()))
        return [
            Gap(since=span.since, until=span.until, log=log, reason=self._why(log, span))
            for span in unseen
            if span.until - span.since >= _LEAST
        ]

    def gaps(self, log: Log, since: datetime, until: datetime) -> list[Gap]:
        """Those up to the last question: what is younger is not missing yet."""
        asked = self.asked_at.get(log, since)
        return self.blind(log, since, min(until, asked)) if asked > since else []

    def share(self, log: Log, since: datetime, until: datetime) -> float:
        """How much of that time the stream shows, from 0 to 1."""
        blind = sum((one.until - one.since for one in self.blind(log, since, until)), timedelta())
        return 1 - blind / (until - since)

    def due(self, log: Log) -> datetime | None:
        """When the next question is to be expected, by the usual pause between the last."""
        asked, every = self.asked_at.get(log), self.every.get(log)
        return asked + every if asked and every else None

    def state(self, log: Log, now: datetime) -> str:
        """ "up to date", "late", "failing" or "never polled": of polling, not of the events."""
        asked = self.asked_at.get(log)
        if asked is None:
            return "never polled"
        if any(at >= asked for _, at, _ in self.faults.get(log, ())):
            return "failing"
        pause = max(_QUIET, 4 * self.every.get(log, timedelta()))
        return "late" if now - asked > pause else "up to date"

    def _why(self, log: Log, span: Span) -> str:
        met = [
            (at, reason)
            for fault, at, reason in self.faults.get(log, ())
            if fault.since < span.until and span.since < fault.until
        ]
        if met:
            return max(met)[1]
        seen = self.seen.get(log)
        return _EARLIER if seen and span.until <= seen[0].since else _NOT_ASKED


NOTHING = Known(seen={}, faults={}, asked_at={}, every={})


def known(claims: pl.LazyFrame) -> Known:
    logs = ["integration", "stream"]
    rounds = claims.group_by(logs).agg(
        asked=pl.col("asked_at").max(),
        every=pl.col("asked_at").unique().sort().tail(100).diff().median(),
    )
    faults = claims.filter(pl.col("outcome").is_in(["failed", "gone"])).select(
        *logs, "since", "until", "asked_at", pl.col("reason").fill_null("")
    )
    seen, broken, asked = pl.collect_all([_merged(claims), faults, rounds])
    return Known(
        seen=_by_log(seen, lambda since, until: Span(since=since, until=until)),
        faults=_by_log(
            broken, lambda since, until, at, why: (Span(since=since, until=until), at, why)
        ),
        asked_at={(name, stream): at for name, stream, at, _ in asked.iter_rows() if at},
        every={(name, stream): every for name, stream, _, every in asked.iter_rows() if every},
    )


def _by_log(rows: pl.DataFrame, made: Callable[..., T]) -> dict[Log, tuple[T, ...]]:
    """Of each stream what `made` makes of the columns after its name."""
    found: dict[Log, list[T]] = {}
    for integration, stream, *rest in rows.iter_rows():
        found.setdefault((integration, stream), []).append(made(*rest))
    return {log: tuple(each) for log, each in found.items()}


def _merged(claims: pl.LazyFrame) -> pl.LazyFrame:
    """Spans that were answered, per stream in order and apart; none beyond when it was asked."""
    logs = ["integration", "stream"]
    return (
        claims.filter(pl.col("outcome") == "complete")
        .with_columns(until=pl.min_horizontal("until", "asked_at"))
        .filter(pl.col("since") < pl.col("until"))
        .sort(*logs, "since")
        .with_columns(reached=pl.col("until").cum_max().shift().over(logs))
        .with_columns(
            island=(pl.col("since") > pl.col("reached")).fill_null(False).cum_sum().over(logs)
        )
        .group_by(*logs, "island", maintain_order=True)
        .agg(pl.col("since").min(), pl.col("until").max())
        .drop("island")
    )
