"""Which messages follow from new findings: groups, updates, digests. Pure.

A finding goes to each receiver once: into the alert about its rule and entity, or into a digest. A
later revision changes the alert that the finding is in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipelines.detections.alerts import message, outbox, routes
from pipelines.detections.alerts.message import Alert, severity
from pipelines.detections.alerts.outbox import Delivery, Outbox, Row
from pipelines.settings.alerts import AlertSettings

_MOST_SUBJECTS = 1000
_HOUR = timedelta(hours=1)
Finding = Mapping[str, Any]
"""A row of schemas.FINDINGS."""
Payload = Callable[[str], str]
"""The id of a delivery -> the payload of its newest revision."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """The changes so far: alerts in full, and the parts that digests gain."""

    chosen: AlertSettings
    known: Outbox
    payload: Payload
    now: datetime
    floods: Collection[str] = ()
    """Ids of rules that find too much: they wait for the digest."""
    alerts: dict[str, tuple[Delivery, Alert, list[str]]] = field(default_factory=dict)
    """Delivery -> it, the alert, and the findings in it."""
    new: list[Delivery] = field(default_factory=list)
    digests: dict[tuple[str, str], list[Finding]] = field(default_factory=dict)
    """Receiver, and "daily" or "throttled" -> findings."""


def affected(known: Outbox, found: Sequence[Finding]) -> set[str]:
    """Return the deliveries whose payloads a plan may need."""
    ids = {each for row in found for each in known.by_subject.get(row["finding_uid"], ())}
    topics = {_topic(row) for row in found}
    return ids | {each.id for (_, topic), each in known.by_topic.items() if topic in topics}


def rows(plan: Plan, found: Sequence[Finding]) -> list[Row]:
    """Return the rows of `deliveries` that follow from findings, in the order of `seq`."""
    newest = {row["finding_uid"]: row for row in found}
    for row in newest.values():
        _add(plan, row)
    return [*_alerts(plan), *_digests(plan)]


def is_alerted(row: Finding) -> bool:
    """Return whether anybody is to be alerted to a finding as it is now."""
    settled = not row["provisional"] or severity(row["level"]) >= severity("high")
    return row["status"] == "found" and row["exception"] is None and settled


def _add(plan: Plan, row: Finding) -> None:
    told = set()
    for each in plan.known.by_subject.get(row["finding_uid"], ()):
        delivery = plan.known.deliveries[each]
        told.add(delivery.receiver)
        if delivery.about == "findings":
            _change(plan, delivery, row)
    if not is_alerted(row):
        return
    for receiver, way in routes.of_finding(plan.chosen, row).items():
        if receiver in told:
            continue
        late = plan.now - row["time"] > plan.chosen.alert_within
        if way == "digest" or late or row["rule_id"] in plan.floods:
            plan.digests.setdefault((receiver, "daily"), []).append(row)
        elif group := _group(plan, receiver, row):
            _change(plan, group, row)
        elif _is_throttled(plan, receiver):
            plan.digests.setdefault((receiver, "throttled"), []).append(row)
        else:
            _open(plan, receiver, row)


def _change(plan: Plan, delivery: Delivery, row: Finding) -> None:
    """Add a finding to an alert, or withdraw it."""
    uid = row["finding_uid"]
    if delivery.id in plan.alerts:
        _, alert, subjects = plan.alerts[delivery.id]
    else:
        alert = message.load(plan.payload(delivery.id))
        subjects = list(delivery.newest.subjects)
    left = [each for each in subjects if each != uid]
    if is_alerted(row):
        changed, left = message.joined(alert, row, len(left) + 1), [*left, uid]
    elif uid in subjects:
        changed = message.withdrawn(alert, uid, len(left))
    else:
        return
    if changed != alert:
        plan.alerts[delivery.id] = delivery, changed, left


def _group(plan: Plan, receiver: str, row: Finding) -> Delivery | None:
    """Return the recent alert about the same rule and entity, if there is one."""
    found = plan.known.by_topic.get((receiver, _topic(row)))
    if found is None or plan.now - found.opened_at > plan.chosen.group_within:
        return None
    _, _, subjects = plan.alerts.get(found.id, (None, None, None))
    if subjects is None:
        subjects = found.newest.subjects if found.revisions else []
    return found if len(subjects) < _MOST_SUBJECTS else None


def _open(plan: Plan, receiver: str, row: Finding) -> None:
    uid, topic = row["finding_uid"], _topic(row)
    opened = Delivery(
        id=outbox.key(receiver, row["rule_id"], row["entity"] or "", uid),
        receiver=receiver,
        about="findings",
        topic=topic,
        opened_at=plan.now,
    )
    plan.new.append(opened)
    plan.known.by_topic[receiver, topic] = opened
    plan.alerts[opened.id] = opened, message.opened(row), [uid]


def _is_throttled(plan: Plan, receiver: str) -> bool:
    limit, since = plan.chosen.receivers[receiver].per_hour, plan.now - _HOUR
    opened = sum(each.receiver == receiver for each in plan.new)
    return plan.known.opened_since(receiver, since) + opened >= limit


def _alerts(plan: Plan) -> list[Row]:
    return [
        revision_row(plan.chosen, delivery, alert, subjects, plan.now)
        for delivery, alert, subjects in plan.alerts.values()
    ]


def revision_row(
    chosen: AlertSettings,
    delivery: Delivery,
    alert: Alert,
    subjects: Collection[str],
    now: datetime,
) -> Row:
    """Return the row that queues the next revision of a delivery, or drops it.

    Withdrawn before anybody can have been alerted, it is not sent at all.
    """
    revision = max(delivery.revisions) + 1 if delivery.revisions else 0
    due = now
    if delivery.told_at is not None:
        due = max(now, delivery.told_at + chosen.update_every)
    receiver = chosen.receivers.get(delivery.receiver)
    if receiver is not None and not alert.resolved:
        zone = chosen.zone(delivery.receiver)
        due = max(due, routes.not_before(receiver.quiet_hours, zone, alert.level, due))
    dropped = not subjects and delivery.told_at is None
    return {
        **_new(delivery, now),
        "revision": revision,
        "subjects": list(subjects),
        "state": "dropped" if dropped else "held" if due > now else "queued",
        "next_at": due,
        "payload": message.dump(alert),
    }


def _digests(plan: Plan) -> list[Row]:
    return [
        _digest(plan, receiver, kind, found) for (receiver, kind), found in plan.digests.items()
    ]


def _digest(plan: Plan, receiver: str, kind: str, found: Sequence[Finding]) -> Row:
    """Return the row that adds findings to the next digest of a receiver."""
    due, title = plan.now, "more than the receiver takes in an hour"
    while True:
        if kind == "daily":
            at, zone = plan.chosen.digest_at, plan.chosen.zone(receiver)
            due, title = (
                routes.next_digest(at, zone, due),
                "older events, lower levels, noisy rules",
            )
        else:
            due = due.replace(minute=0, second=0, microsecond=0) + _HOUR
        topic = f"{kind} {due.isoformat()}"
        delivery = Delivery(
            id=outbox.key(receiver, topic),
            receiver=receiver,
            about="digest",
            topic=topic,
            opened_at=plan.now,
        )
        # Another machine, whose clock is ahead, may have sent it.
        former = plan.known.deliveries.get(delivery.id)
        if former is None or former.newest.state == "held":
            break
    return {
        **_new(delivery, plan.now),
        "revision": 0,
        "subjects": [row["finding_uid"] for row in found],
        "state": "held",
        "next_at": due,
        "payload": message.dump(message.digest(found, title)),
    }


def _new(delivery: Delivery, now: datetime) -> Row:
    return {
        "time": now,
        "delivery": delivery.id,
        "receiver": delivery.receiver,
        "about": delivery.about,
        "topic": delivery.topic,
        "attempt": 0,
        "receipt": None,
        "claimant": None,
    }


def _topic(row: Finding) -> str:
    return outbox.key("rule and entity", row["rule_id"], row["entity"] or "")
