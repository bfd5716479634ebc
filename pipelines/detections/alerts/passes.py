"""One pass: queue new alerts, check auditlake itself, deliver due ones, and report life.

Passes may overlap, also on several machines: each step is a fenced commit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.clock import utc_now
from pipelines.detections.alerts import deliver, floods, health, outbox, queueing
from pipelines.detections.alerts.deliver import Sent
from pipelines.detections.alerts.floods import Flood
from pipelines.detections.alerts.outbox import Message
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import NoAnswer
from pipelines.errors import AuditlakeError, explained
from pipelines.extraction import schedule
from pipelines.lake import deliveries
from pipelines.lake.findings import DELIVERIES
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings import Settings

_log = logging.getLogger("auditlake")
_HEALTH_EVERY = timedelta(minutes=5)
_HEALTH, _HEARTBEAT = (StreamKey(DELIVERIES.name, name) for name in ("health", "heartbeat"))


@dataclass(slots=True, kw_only=True)
class Pass:
    """The result of a pass."""

    queued: int = 0
    """Rows about new findings."""
    problems: int = 0
    """Messages queued about problems of auditlake that began or ended."""
    sent: list[Sent] = field(default_factory=list)
    """All tries to deliver a message."""
    errors: list[str] = field(default_factory=list)
    heartbeat: str | None = None
    """The dead-man's switch's answer; None if none was due."""


def pass_once(chosen: Settings, lake: Lake, now: datetime) -> Pass:
    """Queue and deliver due alerts. Errors are in the result; a step that fails ends no other."""
    done = Pass()
    if not chosen.alerts.is_used:
        return done
    if chosen.alerts.receivers:
        # Rules that cannot be read must not keep findings from being sent.
        flooding: list[Flood] = []
        _step(done, lambda: flooding.extend(floods.of(lake, chosen.detections, now)))
        _step(done, lambda: _queue(done, chosen, lake, now, flooding))
        if _is_over(lake, _HEALTH, _HEALTH_EVERY, utc_now()):
            _step(done, lambda: _check(done, chosen, lake, now))
        _step(done, lambda: _deliver(done, chosen, lake, now))
    if not done.errors:
        _step(done, lambda: _beat(done, chosen, lake))
    return done


def _step(done: Pass, work: Callable[[], None]) -> None:
    try:
        with explained():
            work()
    except AuditlakeError as error:
        _log.warning("alerts: %s", error)
        done.errors.append(str(error))


def _queue(
    done: Pass, chosen: Settings, lake: Lake, now: datetime, flooding: Sequence[Flood]
) -> None:
    rules = {each.rule_id for each in flooding}
    done.queued = queueing.queue(lake, chosen.alerts, now, rules)


def _check(done: Pass, chosen: Settings, lake: Lake, now: datetime) -> None:
    found = health.problems(chosen, lake, now)
    done.problems = health.queue(lake, chosen.alerts, found, now)
    _record_turn(lake, _HEALTH)


def _deliver(done: Pass, chosen: Settings, lake: Lake, now: datetime) -> None:
    done.sent = deliver.deliver(lake, chosen, now)


def _beat(done: Pass, chosen: Settings, lake: Lake) -> None:
    """Request the dead-man's switch, which raises the alarm if this stays away."""
    url = chosen.alerts.heartbeat
    every = chosen.alerts.heartbeat_every
    if url is None or not _is_over(lake, _HEARTBEAT, every, utc_now()):
        return
    address = url.get_secret_value()
    try:
        answer = exchange.send(chosen.network, "GET", address, None)
        outcome = exchange.judged(answer, [address])
        done.heartbeat = outcome.receipt
        if outcome.result == "sent":
            _record_turn(lake, _HEARTBEAT)
    except NoAnswer as error:
        done.heartbeat = error.outcome.receipt


def _record_turn(lake: Lake, key: StreamKey) -> None:
    # Only after it has succeeded: until then, each pass tries again.
    schedule.claim_turn(lake, key, None)


def is_due(chosen: Settings, lake: Lake, now: datetime) -> bool:
    """Return whether a pass has something to do. Raises LakeError."""
    turns = {_HEALTH: _HEALTH_EVERY} if chosen.alerts.receivers else {}
    if chosen.alerts.heartbeat is not None:
        turns[_HEARTBEAT] = chosen.alerts.heartbeat_every
    if any(_is_over(lake, key, floor, now) for key, floor in turns.items()):
        return True
    if not chosen.alerts.receivers:
        return False
    return deliveries.has_news(lake) or any(True for _ in _outbox(lake, now).due(now))


def _is_over(lake: Lake, key: StreamKey, floor: timedelta, now: datetime) -> bool:
    last = schedule.last_polled(lake, key)
    return last is None or not timedelta(0) <= now - last < floor


def unsent(lake: Lake, now: datetime) -> list[Message]:
    """Return the messages that wait, are being sent, or are dead, by when they were due."""
    found = (each for each in _outbox(lake, now).messages() if each.state not in outbox.DONE)
    return sorted(found, key=lambda each: each.due_at)


def _outbox(lake: Lake, now: datetime) -> outbox.Outbox:
    return outbox.fold(deliveries.recorded(lake, now - outbox.KEPT))
