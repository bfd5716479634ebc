"""Metrics for Prometheus: the state of the streams as `auditlake status` shows it, and counts.

A collection reads logs, `coverage` and small files, but no row of a stream. docs/metrics.md
explains each metric.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from pipelines import registry
from pipelines.cli import status
from pipelines.cli.status import State
from pipelines.clock import Clock, utc_now
from pipelines.detections.alerts import resend
from pipelines.extraction import rate_limit, tally
from pipelines.extraction.tally import Tally
from pipelines.integrity import reports
from pipelines.lake.stream_state import StateName
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import Settings
from pipelines.webhooks.spool import Spool, configured_spool

STREAM = ("integration", "stream")
_STATES = get_args(StateName)
_MOST_STREAMS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SHARED = ("events", "findings", "rollups", "text_index", "identities", "acts")
_Value = float | tuple[int, float] | None
"""A summary has a count and a sum; None: no sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A metric without its samples."""

    name: str
    about: str
    labels: tuple[str, ...] = STREAM
    kind: type[GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily] = GaugeMetricFamily

    def empty(self) -> Any:
        return self.kind(f"auditlake_{self.name}", self.about, labels=self.labels)


def _since(time: datetime | None, now: datetime) -> float | None:
    return None if time is None else (now - time).total_seconds()


def _unix(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


_OF_STATE: Mapping[Described, Callable[[State, datetime], _Value]] = {
    Described(
        name="lag_seconds",
        about="Time since the moment up to which the stream was fetched successfully.",
    ): lambda state, now: _since(state.reached, now),
    Described(
        name="gap_seconds", about="Length of the time ranges that are missing and can be fetched."
    ): lambda state, _: state.gap_seconds,
    Described(
        name="lost_seconds", about="Length of the time ranges that can never be fetched."
    ): lambda state, _: state.lost_seconds,
    Described(
        name="coverage_ratio",
        about="Share of the last 14 days up to the last poll that is covered, from 0 to 1.",
    ): lambda state, _: state.coverage,
    Described(
        name="rows",
        about="Rows stored since the stream was first polled, including those removed since.",
        kind=CounterMetricFamily,
    ): lambda state, _: state.rows,
    Described(
        name="underived_rows", about="Stored rows whose events are not in the table events yet."
    ): lambda state, _: max(0, state.rows - state.events),
    Described(
        name="stored_bytes", about="Size of the data files of the raw table."
    ): lambda state, _: state.bytes,
    Described(
        name="last_event_timestamp_seconds", about="Time of the newest event."
    ): lambda state, _: _unix(state.newest_event),
    Described(
        name="last_arrival_timestamp_seconds", about="When a row was stored last."
    ): lambda state, _: _unix(state.last_arrival),
    Described(
        name="last_poll_timestamp_seconds", about="When the stream was polled last."
    ): lambda state, _: _unix(state.last_polled),
    Described(
        name="next_poll_timestamp_seconds", about="When this machine polls the stream next."
    ): lambda state, _: _unix(state.plan.next if state.plan else None),
}
_OF_TALLY: Mapping[Described, Callable[[Tally], _Value]] = {
    Described(
        name="rounds",
        about="Rounds of this machine: a round fetches a stream to its end.",
        kind=CounterMetricFamily,
    ): lambda counts: counts.rounds,
    Described(
        name="errors",
        about="Rounds that failed, and failed checks of a sensor for new records.",
        kind=CounterMetricFamily,
    ): lambda counts: counts.errors,
    Described(
        name="requests",
        about="Requests sent to the service, including sign-ins and retries.",
        kind=CounterMetricFamily,
    ): lambda counts: counts.requests,
    Described(
        name="throttled_requests",
        about="Requests that the service refused as too many.",
        kind=CounterMetricFamily,
    ): lambda counts: counts.throttled,
    Described(
        name="commit_seconds",
        about="Time to compare a batch of records with the raw table and to commit the new ones.",
        kind=SummaryMetricFamily,
    ): lambda counts: (counts.commits, counts.commit_seconds),
    Described(
        name="push_delay_seconds",
        about="Time from the receipt of a webhook delivery to the commit of its records.",
        kind=SummaryMetricFamily,
    ): lambda counts: (counts.pushes, counts.push_seconds),
}
_STATE = Described(
    name="stream_state",
    about="1 for the present state of the stream as in `auditlake status`, 0 for the others.",
    labels=(*STREAM, "state"),
)
_LIMIT = Described(
    name="rate_limit_requests",
    about="Requests that the credential may send in one period of its rate limit.",
    labels=("integration",),
)
_LEFT = Described(
    name="rate_limit_remaining_requests",
    about="Requests left of them, as the processes of this machine have used them.",
    labels=("integration",),
)
_VERIFIED = Described(
    name="verification_timestamp_seconds",
    about="When the table was verified last, by Dagster or `auditlake verify`.",
    labels=("table",),
)
_RESULT = Described(
    name="verification_success",
    about="1 if the last verification of the table found it as signed, otherwise 0.",
    labels=("table",),
)
_WAITING = Described(
    name="spool_deliveries",
    about="Webhook deliveries that are not in the lake yet.",
    labels=("integration",),
)
_ODD = Described(
    name="spool_unreadable_deliveries",
    about="Webhook deliveries that were set aside because they cannot be read.",
    labels=("integration",),
)
_DEAD = Described(
    name="undelivered_alerts",
    about="Alerts of the last 14 days that were given up, as `auditlake alerts list` shows them.",
    labels=("receiver",),
)
ALL = (
    *(_STATE, *_OF_STATE, *_OF_TALLY),
    *(_LIMIT, _LEFT, _VERIFIED, _RESULT, _WAITING, _ODD, _DEAD),
)
"""All metrics, in the order of the exposition."""


def collect(chosen: Settings, lake: Lake, sources: Sequence[Source], now: datetime) -> list[Metric]:
    """Return all metrics with their samples. Raises AuditlakeError if the lake cannot be read."""
    found = [
        state
        for state in islice(status.overview(lake, sources, now), _MOST_STREAMS)
        # Names in a lake may be anybody's who can write to it.
        if _NAME.fullmatch(state.integration) and _NAME.fullmatch(state.stream)
    ]
    keys = [StreamKey(state.integration, state.stream) for state in found]
    counts = [tally.load(lake, key) for key in keys]
    return [
        _states(found),
        *(
            _filled(
                each, ((key, value(state, now)) for key, state in zip(keys, found, strict=True))
            )
            for each, value in _OF_STATE.items()
        ),
        *(
            _filled(each, ((key, value(count)) for key, count in zip(keys, counts, strict=True)))
            for each, value in _OF_TALLY.items()
        ),
        *_budgets(sources, now),
        *_verifications(lake, keys),
        *_deliveries(configured_spool(chosen, lake), sources),
        _undelivered(chosen, lake, now),
    ]


def _filled(described: Described, samples: Iterable[tuple[Sequence[str], _Value]]) -> Any:
    family = described.empty()
    for labels, value in samples:
        match value:
            case None:
                pass
            case (count, total):
                family.add_metric(labels, count, total)
            case _:
                family.add_metric(labels, value)
    return family


def _states(found: Sequence[State]) -> Any:
    return _filled(
        _STATE,
        (
            ((state.integration, state.stream, name), float(state.state == name))
            for state in found
            for name in _STATES
        ),
    )


def _budgets(sources: Sequence[Source], now: datetime) -> Iterator[Any]:
    found = {
        source.name: budget
        for source in sources
        if (budget := rate_limit.budget(source, now.timestamp()))
    }
    yield _filled(_LIMIT, (([name], budget.limit) for name, budget in found.items()))
    yield _filled(_LEFT, (([name], budget.left) for name, budget in found.items()))


def _verifications(lake: Lake, keys: Sequence[StreamKey]) -> Iterator[Any]:
    """Yield time and result per known table; the reports are in the lake, and may be forged."""
    known = {key.table for key in keys} | set(_SHARED)
    held = {str(each.get("table")): each for each in _reports(lake)}
    found = {name: held[name] for name in sorted(known & held.keys())}
    yield _filled(_VERIFIED, (([name], _time_of(each)) for name, each in found.items()))
    yield _filled(
        _RESULT, (([name], float(each.get("ok") is True)) for name, each in found.items())
    )


def _reports(lake: Lake) -> list[reports.Document]:
    try:
        found = reports.kept(lake)
    except (ValueError, RecursionError):
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _time_of(report: reports.Document) -> float | None:
    try:
        return datetime.fromisoformat(str(report.get("at"))).timestamp()
    except (ValueError, OverflowError):
        return None


def _deliveries(spool: Spool, sources: Sequence[Source]) -> Iterator[Any]:
    names = [source.name for source in sources if source.settings.webhook_secret]
    yield _filled(_WAITING, (([name], len(spool.waiting(name))) for name in names))
    yield _filled(_ODD, (([name], spool.unreadable(name)) for name in names))


def _undelivered(chosen: Settings, lake: Lake, now: datetime) -> Any:
    receivers = chosen.alerts.receivers
    dead = Counter(each.receiver for each in resend.dead(lake, now)) if receivers else Counter()
    return _filled(_DEAD, (([name], dead[name]) for name in receivers))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collector:
    """A collector of prometheus_client, which calls it for each exposition."""

    chosen: Settings
    lake: Lake
    clock: Clock = utc_now

    def collect(self) -> Iterable[Metric]:
        sources = registry.sources(self.chosen, secrets=False)
        return collect(self.chosen, self.lake, sources, self.clock())

    def describe(self) -> Iterable[Metric]:
        return [described.empty() for described in ALL]


def registry_of(chosen: Settings, lake: Lake) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Collector(chosen=chosen, lake=lake))
    return made
