"""Faults of auditlake itself, as far as the lake shows it, and who is alerted to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.detections.alerts import floods, message, outbox, planning, routes, silence
from pipelines.detections.alerts.floods import Flood
from pipelines.detections.alerts.message import Alert
from pipelines.detections.alerts.outbox import Delivery, Outbox, Row
from pipelines.errors import AuditlakeError
from pipelines.integrity import reports, retired_streams
from pipelines.lake import coverage, deliveries, events, stream_state, streams
from pipelines.lake import findings as findings_table
from pipelines.lake.deliveries import Change, State
from pipelines.lake.stream_state import History, Intended
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings import Settings
from pipelines.settings.alerts import AlertSettings

_SETTLED = timedelta(minutes=15)
"""How long a stream must fail, or have a gap, before anybody is alerted."""
_LATE_DELIVERY = timedelta(hours=1)
_RULES = timedelta(days=7)
_LOSS = "loss"
"""How the names of problems begin that never end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    name: str
    """The same while the problem lasts."""
    level: str
    title: str
    text: str
    of: frozenset[str] = frozenset()
    """The integration and its kind, if it is about one."""
    since: datetime | None = None
    receiver: str | None = None
    """The receiver it is about, which is not alerted."""

    @property
    def alert(self) -> Alert:
        return Alert(
            about="health",
            level=self.level,
            title=self.title,
            text=self.text,
            since=self.since,
        )


def problems(chosen: Settings, lake: Lake, now: datetime) -> list[Problem]:
    """Return everything that is wrong now, except undelivered alerts. Raises AuditlakeError."""
    found = histories(chosen, lake)
    return [
        *(each for key, history in found.items() for each in of_stream(key, history, lake, now)),
        *of_verifications(_reports(lake)),
        *of_rules(lake, now),
        *map(_flooding, floods.of(lake, chosen.detections, now)),
        *(_silent(each) for each in silence.streams(lake, found, now)),
    ]


def histories(chosen: Settings, lake: Lake) -> dict[StreamKey, History]:
    """Return the history of each stream that the lake has seen."""
    retired: Mapping[tuple[str, str], datetime] = {}
    with suppress(AuditlakeError, OSError):  # a verification reports acts that cannot be read
        retired = retired_streams.retired(lake)
    intended, known = Intended(configured=chosen.polls, retired=retired), streams.facts(lake)
    return {
        key: coverage.history(lake, key, intended.of(key, known.get(key, stream_state.Facts())))
        for key in sorted({*known, *coverage.keys(lake)})
    }


def of_stream(key: StreamKey, history: History, lake: Lake, now: datetime) -> Iterator[Problem]:
    """Yield the problems of a stream. A gap of a failing stream is no second one."""
    state = stream_state.state(history, now, behind=events.behind(lake, key))
    name, one = key.app, _names(key, history)
    match state.name:
        case "failing" if state.since and now - state.since >= _SETTLED:
            yield Problem(
                name=f"stream {name}",
                level="high",
                title=f"{name} cannot be fetched",
                text=f"{state.reason}. `auditlake doctor` checks credentials and permissions.",
                of=one,
                since=state.since,
            )
        case "late":
            yield Problem(
                name=f"stream {name}",
                level="high",
                title=f"{name} is late",
                text="It is no longer polled in time: check that Dagster or `auditlake up` runs.",
                of=one,
                since=history.polled_at,
            )
        case "up to date" | "events behind raw":
            yield from _gaps(key, history, now)
    yield from _losses(key, history, now)


def _names(key: StreamKey, history: History) -> frozenset[str]:
    return frozenset({key.integration, history.facts.kind})


def _gaps(key: StreamKey, history: History, now: datetime) -> Iterator[Problem]:
    known = stream_state.coverage(history, now)
    settled = [gap for gap in known.gaps if now - gap.span.until >= _SETTLED]
    if settled:
        first, last = settled[0].span.since, settled[-1].span.until
        yield Problem(
            name=f"gap {key.app}",
            level="medium",
            title=f"{key.app} has {len(settled):,} gaps",
            text=f"Events from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC are missing: "
            f"{settled[-1].reason}. `auditlake backfill {key.integration}` fetches them.",
            of=_names(key, history),
            since=first,
        )


def _losses(key: StreamKey, history: History, now: datetime) -> Iterator[Problem]:
    """Yield the newest recent loss: earlier ones were reported when they were the newest."""
    gone, recent = stream_state.coverage(history, now).lost, now - outbox.KEPT
    lost = [gap for gap in gone if gap.span.until > recent]
    if lost and not history.retired:
        span = max((gap.span for gap in lost), key=lambda span: span.until)
        yield Problem(
            name=f"{_LOSS} {key.app} {span.until.isoformat()}",
            level="high",
            title=f"{key.app} has lost a range of time",
            text=f"Events from {span.since:%Y-%m-%d %H:%M} to {span.until:%Y-%m-%d %H:%M} UTC can "
            f"no longer be fetched. `auditlake coverage {key.integration}` shows the reason.",
            of=_names(key, history),
            since=span.since,
        )


def of_verifications(found: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield the tables whose last verification (reports.document) found something."""
    for report in found:
        findings = report.get("findings")
        if report.get("ok") is False and isinstance(findings, list) and findings:
            table, first = str(report.get("table")), findings[0]
            detail = first.get("detail") if isinstance(first, dict) else first
            yield Problem(
                name=f"verification {table}",
                level="critical",
                title=f"The verification of {table} failed",
                text=f"{detail}. `auditlake verify --table {table}` names all findings.",
            )


def _reports(lake: Lake) -> list[Mapping[str, Any]]:
    # They are in the lake, and may be anybody's who can write to it.
    try:
        found = reports.kept(lake)
    except (ValueError, RecursionError):
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def of_rules(lake: Lake, now: datetime) -> Iterator[Problem]:
    """Yield the rules whose newest evaluation of some stream failed."""
    failed = findings_table.failures(lake, now - _RULES)
    for row in failed.unique("rule_id", keep="last").sort("rule_id").iter_rows(named=True):
        yield Problem(
            name=f"rule {row['rule_id']}",
            level="medium",
            title=f"A rule failed: {row['rule_id']}",
            text=f"On {row['integration']}/{row['stream']}: {row['error']}. "
            "`auditlake rules check` shows whether it is valid.",
            since=row["evaluated_at"],
        )


def _flooding(each: Flood) -> Problem:
    return Problem(
        name=f"flood {each.rule_id}",
        level="medium",
        title=f"A rule floods: {each.title}",
        text=f"{each.found:,} findings in 24 hours, {each.expected:,} are expected: they wait for "
        "the daily digest. Except what is harmless, or change max_per_day in rules.toml.",
    )


def _silent(each: silence.Silent) -> Problem:
    return Problem(
        name=f"silence {each.key.app}",
        level="medium",
        title=f"{each.key.app} is unusually silent",
        text=f"It answers, but has had {each.count:,} events since {each.since:%H:%M} UTC, where "
        f"{each.usual:,.0f} are usual on this day and hour: check that the service still logs.",
        of=each.of,
        since=each.since,
    )


def undelivered(chosen: AlertSettings, known: Outbox, now: datetime) -> Iterator[Problem]:
    """Yield the receivers that could not be reached last, or not for an hour."""
    for receiver in chosen.receivers:
        messages = [each for each in known.messages() if each.receiver == receiver]
        sent = max((m.changed_at for m in messages if m.state == "sent"), default=None)
        failed = [
            each
            for each in messages
            if each.state == "dead"
            or (each.revived and each.state not in outbox.DONE)
            or (each.state == "failed" and now - each.due_at >= _LATE_DELIVERY)
        ]
        open_ = [each for each in failed if sent is None or each.changed_at > sent]
        if open_:
            yield Problem(
                name=f"receiver {receiver}",
                level="high",
                title=f"{len(open_):,} alerts to {receiver} could not be delivered",
                text=f"{open_[-1].receipt}. `auditlake alerts list` shows them.",
                receiver=receiver,
                since=min(each.due_at for each in open_),
            )


def queue(lake: Lake, chosen: AlertSettings, found: Sequence[Problem], now: datetime) -> int:
    """Queue messages about problems that began or ended, and return how many.

    Raises LakeError.
    """

    def decide(state: State) -> Change | None:
        known = outbox.fold(state.rows)
        every = [*found, *undelivered(chosen, known, now)]
        ended = {each.id for each in _ended(known, every)}
        texts = state.payloads(ended)
        payloads = {row["delivery"]: row["payload"] for row in texts.iter_rows(named=True)}
        rows = [*_begun(chosen, known, every, now), *_resolved(chosen, known, payloads, now)]
        return Change(rows=rows) if rows else None

    return len(deliveries.change(lake, now - outbox.KEPT, decide))


def _begun(
    chosen: AlertSettings, known: Outbox, found: Iterable[Problem], now: datetime
) -> Iterator[Row]:
    for problem in found:
        for receiver in routes.of_problem(chosen, problem.level, problem.of):
            topic = f"health {problem.name}"
            delivery = known.by_topic.get((receiver, topic))
            if receiver == problem.receiver or (delivery and not delivery.newest.withdrawn):
                continue
            # Soon after its end it is the same alert again, which may be told only so often.
            if delivery is None or now - delivery.newest.changed_at > chosen.group_within:
                delivery = Delivery(
                    id=outbox.key(receiver, topic, now.isoformat()),
                    receiver=receiver,
                    about="health",
                    topic=topic,
                    opened_at=now,
                )
            yield planning.revision_row(chosen, delivery, problem.alert, [problem.name], now)


def _ended(known: Outbox, found: Sequence[Problem]) -> Iterator[Delivery]:
    names = {problem.name for problem in found}
    for each in known.deliveries.values():
        subjects = each.newest.subjects
        lasting = any(subject.startswith(f"{_LOSS} ") for subject in subjects)
        if each.about == "health" and subjects and not lasting and not names & set(subjects):
            yield each


def _resolved(
    chosen: AlertSettings, known: Outbox, payloads: Mapping[str, str], now: datetime
) -> Iterator[Row]:
    for delivery, payload in payloads.items():
        ended = message.resolved(message.load(payload))
        yield planning.revision_row(chosen, known.deliveries[delivery], ended, [], now)
