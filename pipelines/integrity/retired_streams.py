"""Signed acts that retire streams: somebody decided that they are no longer polled, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pipelines.integrity import operator_acts
from pipelines.lake.stream_state import Key
from pipelines.lake.tables import Lake, StreamKey

_RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """The streams to retire, who retires them, and why."""

    logs: tuple[StreamKey, ...]
    who: str
    why: str


def retire(lake: Lake, retirement: Retirement, now: datetime) -> None:
    """Record and sign that the streams are retired. Raises LakeError if signing is off."""
    for key in retirement.logs:
        act = {"act": _RETIRED, "table": key.table, "log": key.app}
        operator_acts.record(lake, {**act, "who": retirement.who, "why": retirement.why}, now)


def retired(lake: Lake) -> dict[Key, datetime]:
    """Return when each retired stream was retired last. Raises Alarm if the acts were altered."""
    return dict(_times(operator_acts.recorded(lake)))


def _times(acts: Iterable[dict[str, str]]) -> Iterable[tuple[Key, datetime]]:
    for act in acts:
        if act.get("act") == _RETIRED:
            yield StreamKey(*act["log"].split("/")), datetime.fromisoformat(act["at"])
