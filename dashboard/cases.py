"""One finding as it is opened: its revisions, its events, and the search that finds these."""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import polars as pl

from dashboard import findings, state, times
from dashboard.as_search import as_search
from dashboard.entities import Entity
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Filter, Query
from dashboard.state import View

_BEFORE, _AFTER = timedelta(days=3), timedelta(days=1)
_NEAR = timedelta(minutes=30)
_TYPED = 40
"""Events that a command can name; more make it too long to copy."""
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Case:
    """A finding with its revisions, newest first, and the events that it names, newest first."""

    finding: dict[str, Any]
    revisions: pl.DataFrame
    events: pl.DataFrame

    @property
    def uid(self) -> str:
        return str(self.finding["finding_uid"])

    @cached_property
    def query(self) -> Query:
        """The query for these events and no others."""
        uids = self.finding["event_uids"] or ()
        return Query(
            since=_floor(self.finding["since"] or self.finding["time"]),
            until=_floor(self.finding["time"]) + _SECOND,
            filters=tuple(Filter(field="event_uid", value=uid) for uid in uids),
        )

    @property
    def command(self) -> str:
        """The command that makes an evidence pack; "" if the events are too many to name."""
        if len(self.query.filters) > _TYPED:
            return ""
        search, name = shlex.quote(as_search(self.query)), f"finding-{self.uid[:12]}.zip"
        since, until = times.instant(self.query.since), times.instant(self.query.until)
        return f"auditlake evidence --search {search} --since {since} --until {until} --out {name}"

    @property
    def entity(self) -> Entity | None:
        """Its subject, in the days around it; None if it names nobody."""
        if not self.finding["entity"]:
            return None
        return Entity(
            kind=kind(self.finding["entity"]),
            value=self.finding["entity"],
            since=self.finding["time"] - _BEFORE,
            until=self.finding["time"] + _AFTER,
        )

    def around(self, *filters: Filter) -> dict[str, list[str]]:
        """Return the parameters of Explore for the time around the finding."""
        span = times.between(
            (self.finding["since"] or self.finding["time"]) - _NEAR, self.finding["time"] + _NEAR
        )
        return state.params(View(range=span, filters=filters))


def opened(lake: Lake, snapshot: Snapshot | None, uid: str) -> Case | None:
    """Return a finding; None if the lake has no such finding, or the visitor must not see it."""
    revisions = lake.recent("findings", findings.revisions, uid)
    if revisions is None or revisions.is_empty():
        return None
    finding = revisions.row(0, named=True)
    since, uids = finding["since"] or finding["time"], tuple(finding["event_uids"] or ())
    events = (
        snapshot.ask(findings.named, uids, since.date(), finding["time"].date())
        if snapshot
        else pl.DataFrame()
    )
    return Case(finding=finding, revisions=revisions, events=events)


def kind(entity: str) -> str:
    """Return the kind of entity that a finding's is: a person or service, or an address."""
    try:
        ipaddress.ip_address(entity)
    except ValueError:
        return "actor"
    return "source_ip"


def _floor(instant: Any) -> Any:
    return instant.replace(microsecond=0)
