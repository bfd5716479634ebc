"""Send due messages: claim it, send it, record the receipt.

A worker that is killed in between leaves a claim, which expires. The message is then sent again
with the same key, which the receiver ignores if it has it already.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from pipelines.clock import utc_now
from pipelines.detections.alerts import message, outbox
from pipelines.detections.alerts.message import Alert
from pipelines.detections.alerts.outbox import CLAIMED_FOR, Delivery, Message, Row
from pipelines.detections.alerts.receivers import (
    apprise,
    jira,
    mail,
    opsgenie,
    pagerduty,
    slack,
    webhook,
)
from pipelines.detections.alerts.receivers.exchange import Envelope, NoAnswer, Outcome
from pipelines.errors import LakeError
from pipelines.lake import deliveries
from pipelines.lake.deliveries import Change, State
from pipelines.lake.tables import Lake
from pipelines.settings import Settings, telemetry
from pipelines.settings.alerts import AlertSettings
from pipelines.settings.network import Way

_AT_ONCE = 8
_BUDGET = 120.0
"""Seconds after which a pass claims nothing more; far less than a claim lasts."""
_FIRST, _LONGEST = timedelta(seconds=30), timedelta(hours=1)
_MOST_DEMANDED = timedelta(hours=6)
_WITHOUT_KEY = frozenset({"slack", "apprise"})
"""Kinds of receivers that cannot recognise a message they have already."""
_SENDERS: dict[str, Callable[[Any, Envelope, Way], Outcome]] = {
    "webhook": webhook.send,
    "slack": slack.send,
    "email": mail.send,
    "pagerduty": pagerduty.send,
    "opsgenie": opsgenie.send,
    "jira": jira.send,
    "apprise": apprise.send,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A try to send a message, and its result."""

    message: Message
    headline: str
    row: Row

    @property
    def state(self) -> str:
        return str(self.row["state"])


def deliver(lake: Lake, chosen: Settings, now: datetime) -> list[Sent]:
    """Send all messages that are due, and return the result of each. Raises LakeError."""
    until, done = time.monotonic() + _BUDGET, list[Sent]()
    claimant = f"{socket.gethostname()}/{os.getpid()}"
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="alerts") as workers:
        while time.monotonic() < until:
            claimed = claim(lake, chosen.alerts, now, claimant)
            if not claimed:
                break
            tries = [workers.submit(_deliver, chosen, now, each) for each in claimed]
            _record_each(lake, tries, now)
            done += [each.result() for each in tries]
    return done


def _record_each(lake: Lake, tries: Iterable[Future[Sent]], now: datetime) -> None:
    """Record each result once it is known; those that are known by then share a commit.

    Commits by several threads would only keep each other from being the next one.
    """
    left, failed = set(tries), None
    while left:
        ended, left = wait(left, return_when=FIRST_COMPLETED)
        try:
            record(lake, [each.result().row for each in ended], now)
        except LakeError as error:  # the others are being sent already
            failed = error
    if failed:
        raise failed


def claim(
    lake: Lake, chosen: AlertSettings, now: datetime, claimant: str
) -> list[tuple[Message, Alert]]:
    """Claim some messages that are due, so that no other worker sends them.

    Those that must not be sent any more become dead.
    """
    claimed: list[tuple[Message, Alert]] = []

    def decide(state: State) -> Change | None:
        claimed.clear()
        known = outbox.fold(state.rows)
        rows, due = list[Row](), list[Message]()
        for each in known.due(now):
            if reason := _hopeless(chosen, each, now):
                rows.append(each.row("dead", now, receipt=reason))
            elif len(due) < _AT_ONCE:
                due.append(each)
        texts = state.payloads({each.delivery for each in due})
        for each in due:
            ours = texts.filter(delivery=each.delivery)
            parts = [message.load(part) for part in outbox.payload_parts(ours, each.revision)]
            claimed.append((each, message.merged(parts)))
            values = {"attempt": each.attempt + 1, "next_at": now + CLAIMED_FOR}
            rows.append(each.row("claimed", now, **values, claimant=claimant))
        return Change(rows=rows) if rows else None

    deliveries.change(lake, now - outbox.KEPT, decide)
    for each, _ in claimed:
        each.attempt, each.claimant = each.attempt + 1, claimant
        each.unanswered, each.next_at = each.unanswered + 1, now + CLAIMED_FOR
    return claimed


def _hopeless(chosen: AlertSettings, each: Message, now: datetime) -> str | None:
    """Return why a message is not sent any more, or None."""
    receiver = chosen.receivers.get(each.receiver)
    if receiver is None:
        return "the receiver is no longer configured"
    if receiver.kind in _WITHOUT_KEY and each.unanswered > 1:
        return "sent twice without an answer, and may have arrived"
    if each.attempt and now - each.due_at > chosen.give_up_after:
        return f"given up after {each.attempt} tries: {each.receipt or 'no answer'}"
    return None


def _deliver(chosen: Settings, now: datetime, claimed: tuple[Message, Alert]) -> Sent:
    each, alert = claimed
    about = {"auditlake.receiver": each.receiver, "auditlake.attempt": each.attempt}
    with telemetry.span("deliver alert", about) as span:
        outcome = send(chosen, each.receiver, _envelope(chosen, each, alert))
        span.set("auditlake.receiver.kind", chosen.alerts.receivers[each.receiver].kind)
        if outcome.result != "sent":
            span.fail(outcome.result)
    row = after(chosen.alerts, each, outcome, now, random.random())  # noqa: S311 spreads retries
    return Sent(message=each, headline=alert.title, row=row)


def _envelope(chosen: Settings, each: Message, alert: Alert) -> Envelope:
    return Envelope(
        delivery=each.delivery,
        revision=each.revision,
        alert=alert,
        sent_at=utc_now(),
        dashboard=chosen.alerts.dashboard,
    )


def send(chosen: Settings, receiver: str, envelope: Envelope) -> Outcome:
    """Send an alert to a receiver of the configuration, and return how that ended."""
    to = chosen.alerts.receivers[receiver]
    try:
        return _SENDERS[to.kind](to, envelope, chosen.network)
    except NoAnswer as error:
        return error.outcome
    except Exception as error:
        # One receiver must not hold up the others. The text may contain an address or a credential.
        return Outcome(result="unknown", receipt=f"{outbox.NO_ANSWER}: {type(error).__name__}")


def after(
    chosen: AlertSettings, each: Message, outcome: Outcome, now: datetime, chance: float
) -> Row:
    """Return the row after a try; `chance`, from 0 to 1, spreads the retries."""
    if outcome.result == "sent":
        return each.row("sent", now, receipt=outcome.receipt)
    twice = each.unanswered > 1 and chosen.receivers[each.receiver].kind in _WITHOUT_KEY
    if outcome.result == "never" or (outcome.result == "unknown" and twice):
        return each.row("dead", now, receipt=outcome.receipt)
    wait = pause(each.attempt, outcome.retry_after, chance)
    return each.row("failed", now, receipt=outcome.receipt, next_at=now + wait)


def pause(attempt: int, demanded: float | None, chance: float) -> timedelta:
    """Return the time before the next try: doubled each time, and as long as was demanded."""
    doubled: timedelta = _FIRST * 2 ** max(0, min(attempt - 1, 10))
    asked = timedelta(seconds=min(demanded or 0.0, _MOST_DEMANDED.total_seconds()))
    return max(min(_LONGEST, doubled) * (0.5 + chance), asked)


def record(lake: Lake, rows: Sequence[Row], now: datetime) -> None:
    """Record results of claimed messages, but of those that another worker has meanwhile sent."""

    def decide(state: State) -> Change | None:
        ours = pl.col("delivery").is_in([row["delivery"] for row in rows])
        known = outbox.fold(state.rows.filter(ours)).deliveries
        news = [row for row in rows if _is_news(row, known.get(row["delivery"]))]
        return Change(rows=news) if news else None

    deliveries.change(lake, now - outbox.KEPT, decide)


def _is_news(row: Row, known: Delivery | None) -> bool:
    held = known.revisions.get(row["revision"]) if known else None
    if row["state"] == "sent":  # worth knowing even after the claim has expired
        return held is None or held.state != "sent"
    return held is not None and held.state == "claimed" and held.attempt == int(row["attempt"])


def test(chosen: Settings, names: Sequence[str], now: datetime) -> dict[str, Outcome]:
    """Send a test alert to some receivers, or all, without the outbox; return their answers."""
    alert = Alert(
        about="test",
        level="informational",
        title="Test alert of auditlake",
        text="This receiver gets alerts of auditlake. Nothing has happened.",
        since=now,
    )
    found = {}
    for name in names or chosen.alerts.receivers:
        key = outbox.key(name, "test", now.isoformat())
        opened = Envelope(delivery=key, revision=0, alert=alert, sent_at=now)
        found[name] = send(chosen, name, opened)
        if found[name].result == "sent":
            ended = Envelope(delivery=key, revision=1, alert=message.resolved(alert), sent_at=now)
            if chosen.alerts.receivers[name].kind in ("pagerduty", "opsgenie"):
                send(chosen, name, ended)
    return found
