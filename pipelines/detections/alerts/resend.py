"""Queue alerts again that could not be delivered, on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipelines.detections.alerts import outbox
from pipelines.detections.alerts.outbox import Message
from pipelines.errors import ConfigurationError
from pipelines.lake import deliveries
from pipelines.lake.deliveries import Change, State
from pipelines.lake.tables import Lake
from pipelines.settings.alerts import AlertSettings

_SHORTEST = 6


def dead(lake: Lake, now: datetime) -> list[Message]:
    """Return the messages that were given up, by when they were due."""
    known = outbox.fold(deliveries.recorded(lake, now - outbox.KEPT))
    found = (each for each in known.messages() if each.state == "dead")
    return sorted(found, key=lambda each: each.due_at)


def chosen(found: Sequence[Message], ids: Sequence[str]) -> list[Message]:
    """Return the messages with these ids, or beginnings of them. Raises ConfigurationError."""
    named = dict[str, Message]()
    for id_ in ids:
        ours = [each for each in found if each.delivery.startswith(id_)]
        if len(id_) < _SHORTEST or len(ours) != 1:
            fault = "several ids begin so" if len(ours) > 1 else "no undelivered alert has this id"
            raise ConfigurationError(f"{id_!r}: {fault}: `auditlake alerts list` has the ids")
        named[ours[0].delivery] = ours[0]
    return [*named.values()]


def resend(
    lake: Lake, settings: AlertSettings, wanted: Sequence[Message], now: datetime
) -> list[Message]:
    """Queue these messages again, and return those that nobody else has queued meanwhile.

    Each keeps its key, so that a receiver which has it already ignores it. Those to receivers that
    are no longer configured are left out. Raises LakeError.
    """
    ids = {each.delivery for each in wanted if each.receiver in settings.receivers}
    queued = list[Message]()

    def decide(state: State) -> Change | None:
        known = outbox.fold(state.rows).deliveries
        queued[:] = [
            newest
            for id_ in sorted(ids & known.keys())
            if (newest := known[id_].newest).state == "dead"
        ]
        rows = [
            each.row(
                "queued",
                now,
                attempt=0,
                next_at=now,
                claimant=None,
                receipt=f"sent again on request, after: {each.receipt}",
            )
            for each in queued
        ]
        return Change(rows=rows) if rows else None

    if ids:
        deliveries.change(lake, now - outbox.KEPT, decide)
    return queued
