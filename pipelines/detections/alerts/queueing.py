"""Queue messages about new findings; they and the position in `findings` are one commit."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pipelines.detections.alerts import outbox, planning
from pipelines.detections.alerts.planning import Plan
from pipelines.lake import deliveries
from pipelines.lake.deliveries import Change, State
from pipelines.lake.tables import Lake
from pipelines.settings.alerts import AlertSettings

_MOST = 2000
"""Findings per commit."""


def queue(lake: Lake, chosen: AlertSettings, now: datetime, floods: Collection[str] = ()) -> int:
    """Queue messages about all findings that are new, and return how many rows were queued.

    Those of the rules `floods` wait for the digest. Raises LakeError.
    """
    queued, ahead = 0, True
    while ahead:
        ahead = False

        def decide(state: State) -> Change | None:
            nonlocal ahead
            found = deliveries.findings_after(lake, state.position, _MOST)
            ahead = len(found) == _MOST
            if not found:
                return None
            known = outbox.fold(state.rows)
            texts = state.payloads(planning.affected(known, found))
            newest = {row["delivery"]: row["payload"] for row in texts.iter_rows(named=True)}
            plan = Plan(
                chosen=chosen, known=known, payload=newest.__getitem__, now=now, floods=floods
            )
            return Change(
                rows=planning.rows(plan, found),
                position=found[-1]["seq"] + 1,
            )

        queued += len(deliveries.change(lake, now - outbox.KEPT, decide))
    return queued
