"""Which messages findings of the past would have caused, by the present configuration. Pure.

The findings are taken as if each had been found when it happened: the plan, the outbox and the
rules for floods are those of real alerts, and every message is accepted at once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pipelines.detections.alerts import planning, routes
from pipelines.detections.alerts.outbox import WAITING, Message, Outbox
from pipelines.detections.alerts.planning import Finding, Plan
from pipelines.settings.alerts import AlertSettings

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_END = datetime.max.replace(tzinfo=UTC)
_MANY = 500


@dataclass(slots=True, kw_only=True)
class Messages:
    """The messages that one receiver would have had."""

    alerts: int = 0
    updates: int = 0
    """Messages about findings that join an alert sent before."""
    digests: int = 0


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    messages: dict[str, Messages]
    """By the name of each configured receiver."""
    told: int = 0
    """Findings that somebody would have been alerted to, at once or by a digest."""
    excepted: int = 0
    provisional: int = 0
    """Findings that wait until a gap is filled."""
    unrouted: int = 0
    """Findings that no route leads to a receiver."""
    flooding: int = 0
    """Findings beyond `max_per_day` of their rule, which wait for the digest."""


@dataclass(slots=True, kw_only=True)
class _Play:
    chosen: AlertSettings
    budgets: Mapping[str, int]
    made: Rehearsal
    known: Outbox = field(default_factory=Outbox)
    payloads: dict[str, str] = field(default_factory=dict)
    waiting: list[tuple[datetime, str]] = field(default_factory=list)
    recent: dict[str, deque[datetime]] = field(default_factory=dict)
    most: int = _MANY

    def take(self, row: Finding) -> None:
        """Queue the messages about a finding."""
        now = row["time"]
        self.send(now)
        floods = {row["rule_id"]} if self._floods(row, now) else set[str]()
        if self._is_told(row):
            self.made.told += 1
            self.made.flooding += bool(floods)
        plan = Plan(
            chosen=self.chosen,
            known=self.known,
            payload=self.payloads.__getitem__,
            now=now,
            floods=floods,
        )
        for each in planning.rows(plan, [row]):
            self.known.add(each)
            self.payloads[each["delivery"]] = each["payload"]
            heapq.heappush(self.waiting, (each["next_at"], each["delivery"]))

    def _floods(self, row: Finding, now: datetime) -> bool:
        budget = self.budgets.get(row["rule_id"])
        if budget is None or row["exception"] is not None:
            return False
        times = self.recent.setdefault(row["rule_id"], deque())
        times.append(now)
        while times[0] <= now - _DAY:
            times.popleft()
        return len(times) > budget

    def _is_told(self, row: Finding) -> bool:
        if row["exception"] is not None:
            self.made.excepted += 1
        elif not planning.is_alerted(row):
            self.made.provisional += 1
        elif not routes.of_finding(self.chosen, row):
            self.made.unrouted += 1
        else:
            return True
        return False

    def send(self, until: datetime) -> None:
        """Send everything that is due by then."""
        while self.waiting and self.waiting[0][0] <= until:
            at, id_ = heapq.heappop(self.waiting)
            newest = self.known.deliveries[id_].newest
            # A newer revision may have taken its place, which has a time of its own.
            if newest.state in WAITING and newest.next_at == at:
                self._count(newest)
                self.known.add(newest.row("claimed", at))
                self.known.add(newest.row("sent", at))
        if len(self.known.deliveries) > self.most:
            self._forget(until)

    def _count(self, sent: Message) -> None:
        counts = self.made.messages[sent.receiver]
        if sent.about == "digest":
            counts.digests += 1
        elif self.known.deliveries[sent.delivery].told_at is None:
            counts.alerts += 1
        else:
            counts.updates += 1

    def _forget(self, now: datetime) -> None:
        """Forget the messages that nothing depends on any more."""
        since = now - max(self.chosen.group_within, _HOUR)
        kept, found = Outbox(), self.known.deliveries
        for each in found.values():
            if each.newest.state in WAITING or each.opened_at >= since:
                kept.deliveries[each.id] = each
                kept.by_topic[each.receiver, each.topic] = each
        self.payloads = {id_: self.payloads[id_] for id_ in kept.deliveries}
        self.known, self.most = kept, 2 * len(kept.deliveries) + _MANY


def rehearse(
    chosen: AlertSettings, found: Iterable[Finding], budgets: Mapping[str, int]
) -> Rehearsal:
    """Return which messages follow from findings (schemas.FINDINGS), each in one revision.

    `budgets`: id of a rule -> its `max_per_day`.
    """
    made = Rehearsal(messages={name: Messages() for name in chosen.receivers})
    play = _Play(chosen=chosen, budgets=budgets, made=made)
    for row in sorted(found, key=lambda each: (each["time"], each["finding_uid"])):
        play.take(row)
    play.send(_END)
    return made
