"""The outbox: which messages wait, are being sent or were sent, as rows of `deliveries` show. Pure.

A delivery is one subject at one receiver, and its id is the key for the receiver's deduplication.
Each change of the message is a new revision, which replaces an older one that has not
been sent.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

KEPT = timedelta(days=14)
"""The age of the rows that decisions depend on, besides those of messages that wait."""
CLAIMED_FOR = timedelta(minutes=5)
"""After this time, another worker may claim a delivery whose worker was killed."""
NO_ANSWER = "no answer"
"""How a receipt begins where the message may have arrived all the same."""

State = Literal["queued", "claimed", "sent", "failed", "dead", "held", "dropped"]
DONE: frozenset[State] = frozenset({"sent", "dropped"})
WAITING: frozenset[State] = frozenset({"queued", "held", "failed"})
Row = dict[str, Any]
"""A row of `deliveries` without `seq`."""


@dataclass(slots=True, kw_only=True)
class Message:
    """One revision of a delivery, as of its newest row."""

    delivery: str
    revision: int
    receiver: str
    about: str
    topic: str
    subjects: list[str]
    state: State
    attempt: int
    next_at: datetime
    changed_at: datetime
    due_at: datetime
    """When it was to be sent first."""
    claimant: str | None = None
    receipt: str | None = None
    unanswered: int = 0
    """How many times it was perhaps sent: the worker was killed, or there was no answer."""
    revived: bool = False
    """Whether it was dead before, and somebody wants it to be tried again."""

    @property
    def withdrawn(self) -> bool:
        return not self.subjects

    def row(self, state: State, now: datetime, **values: Any) -> Row:
        """Return a row about the sending of this message."""
        return {
            "time": now,
            "delivery": self.delivery,
            "receiver": self.receiver,
            "about": self.about,
            "revision": self.revision,
            "subjects": self.subjects,
            "topic": self.topic,
            "state": state,
            "attempt": self.attempt,
            "next_at": self.next_at,
            "receipt": None,
            "claimant": self.claimant,
            "payload": None,
            **values,
        }


@dataclass(slots=True, kw_only=True)
class Delivery:
    """A subject at a receiver, with the revisions of its message."""

    id: str
    receiver: str
    about: str
    topic: str
    opened_at: datetime
    revisions: dict[int, Message] = field(default_factory=dict)
    told_at: datetime | None = None
    """When a message about it was claimed last, so that it has perhaps been sent."""

    @property
    def newest(self) -> Message:
        return self.revisions[max(self.revisions)]


@dataclass(slots=True, kw_only=True)
class Outbox:
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    by_subject: dict[str, list[str]] = field(default_factory=dict)
    """Finding or problem -> the deliveries that have ever been about it."""
    by_topic: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    """Receiver and topic -> the newest delivery."""

    def add(self, row: Row) -> None:
        """Apply the next row, by `seq`."""
        known = self.deliveries.get(row["delivery"])
        if known is None:
            known = self.deliveries[row["delivery"]] = Delivery(
                id=row["delivery"],
                receiver=row["receiver"],
                about=row["about"],
                topic=row["topic"],
                opened_at=row["time"],
            )
            self.by_topic[known.receiver, known.topic] = known
        for subject in row["subjects"]:
            known_as = self.by_subject.setdefault(subject, [])
            if known.id not in known_as:
                known_as.append(known.id)
        _apply(known, row)

    def messages(self) -> Iterator[Message]:
        """Yield the newest message of each delivery."""
        return (each.newest for each in self.deliveries.values())

    def due(self, now: datetime) -> Iterator[Message]:
        """Return the messages to be sent now, those that have been due longest first.

        The receivers take turns, so that many messages to one do not hold up the others.
        """
        turns: Counter[str] = Counter()
        waiting = list[tuple[int, Message]]()
        for each in sorted(self.deliveries.values(), key=lambda each: each.newest.due_at):
            if _is_due(each, now):
                turns[each.receiver] += 1
                waiting.append((turns[each.receiver], each.newest))
        return (newest for _, newest in sorted(waiting, key=lambda one: one[0]))

    def opened_since(self, receiver: str, since: datetime) -> int:
        """Return how many alerts a receiver has got since a time, digests not counted."""
        return sum(
            each.receiver == receiver and each.about != "digest" and each.opened_at > since
            for each in self.deliveries.values()
        )


def _is_due(each: Delivery, now: datetime) -> bool:
    newest = each.newest
    waits = newest.state in (*WAITING, "claimed") and newest.next_at <= now
    return waits and not any(
        one.state == "claimed" and one.next_at > now for one in each.revisions.values()
    )


def _apply(known: Delivery, row: Row) -> None:
    before = known.revisions.get(row["revision"])
    revived = before is not None and before.state == "dead" and row["state"] == "queued"
    if revived:
        before = None  # the time and the tries begin again
    message = Message(
        delivery=known.id,
        revision=row["revision"],
        receiver=known.receiver,
        about=known.about,
        topic=known.topic,
        subjects=list(row["subjects"]),
        state=row["state"],
        attempt=row["attempt"],
        next_at=row["next_at"],
        changed_at=row["time"],
        due_at=before.due_at if before else row["next_at"],
        claimant=row["claimant"],
        receipt=row["receipt"],
        unanswered=before.unanswered if before else 0,
        revived=revived or (before is not None and before.revived),
    )
    answered = not (row["receipt"] or "").startswith(NO_ANSWER)
    if row["state"] == "claimed":
        message.unanswered += 1
        known.told_at = row["time"]
    elif row["state"] in ("sent", "failed", "dead") and answered:
        message.unanswered = max(0, message.unanswered - 1)
    known.revisions[row["revision"]] = message


def fold(rows: pl.DataFrame) -> Outbox:
    """Return the outbox after these rows (schemas.DELIVERIES), which are in the order of `seq`."""
    found = Outbox()
    for row in rows.iter_rows(named=True):
        found.add(row)
    return found


def key(receiver: str, *subject: str) -> str:
    """Return the id of a delivery, or a topic, of these parts."""
    text = "\n".join((receiver, *subject))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def payload_parts(rows: pl.DataFrame, revision: int) -> Sequence[str]:
    """Return the payloads of a revision: one, or the parts of a digest."""
    return rows.filter(pl.col("revision") == revision)["payload"].to_list()


def subjects_of(rows: Iterable[Row]) -> set[str]:
    return {subject for row in rows for subject in row["subjects"]}
