"""Signed acts about mapping versions: from which row on one derives `events`, and when all are.

Without them, rows could be relabelled as derived by an older version, whose values nobody can
compute any more.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, signer
from pipelines.lake import events
from pipelines.lake.tables import Lake, StreamKey

_MAPPING, _RENORMALISED = "mapping", "renormalised"

_declared: set[tuple[str, StreamKey, int]] = set()
"""(lake, stream, version) that this process knows to be recorded, so that rounds read no acts."""


def declare(lake: Lake, key: StreamKey, version: int, now: datetime, *, rows: int) -> None:
    """Record that `version` derives the events of all further rows, unless that is recorded.

    `rows` is the number of raw rows; a lake without any may have been created again. If the log of
    acts cannot be written, the next round retries, and a verification reports the reason.
    """
    known = (str(lake.local.resolve()) if lake.local else lake.root, key, version)
    if known in _declared and rows:
        return
    if signer.of(lake, signer.ACTS) is None:
        return
    with suppress(LakeError):  # records of vendors are not kept waiting
        newest = _newest(operator_acts.recorded(lake), key)
        if newest is None or newest["version"] != version:
            act = _act(_MAPPING, key, version)
            operator_acts.record(lake, {**act, "from": events.derived(lake, key)}, now)
        _declared.add(known)


def finish(lake: Lake, key: StreamKey, version: int, now: datetime) -> None:
    """Record that no event of the stream is left of another version than `version`.

    Does nothing if signing is off, or if there never were such events. Raises LakeError.
    """
    acts = operator_acts.recorded(lake)
    newest = _newest(acts, key)
    if newest is None or newest["version"] != version or not newest["from"]:
        return
    if not any(_is(act, _RENORMALISED, key) for act in acts[acts.index(newest) :]):
        operator_acts.record(lake, _act(_RENORMALISED, key, version), now)


def _newest(acts: list[dict[str, Any]], key: StreamKey) -> dict[str, Any] | None:
    """Return the newest act that states which version derives the events of a stream."""
    return next((act for act in reversed(acts) if _is(act, _MAPPING, key)), None)


def _is(act: dict[str, Any], name: str, key: StreamKey) -> bool:
    return act.get("act") == name and act.get("log") == key.app


def _act(name: str, key: StreamKey, version: int) -> dict[str, Any]:
    return {"act": name, "table": events.TABLE.name, "log": key.app, "version": version}
