"""Signed acts about mapping versions: from which row on one derives `events`, and when all are.

Without them, rows could be relabelled as derived by an older version, whose values nobody can
compute any more.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime
from typing import Any

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, signer
from pipelines.integrity.operator_acts import Act, Acts
from pipelines.lake import events
from pipelines.lake.tables import Lake, StreamKey

_MAPPING, _RENORMALISED = KINDS = "mapping", "renormalised"

_declaring = threading.Lock()
_declared: set[tuple[str, StreamKey, int]] = set()
"""(lake, stream, version) that this process knows to be recorded, so that rounds read no acts."""


def declare(lake: Lake, key: StreamKey, version: int, now: datetime, *, rows: int) -> None:
    """Record that `version` derives the events of all further rows, unless that is recorded.

    `rows` is the number of raw rows; a lake without any may have been created again. If the log of
    acts cannot be written, the next round retries, and a verification reports the reason.
    """
    known = (lake.address, key, version)
    if known in _declared and rows:
        return
    if signer.of(lake, signer.ACTS) is None:
        return

    def missing(acts: Acts) -> list[Act]:
        # Those of the other streams, too, so that their rounds need not ask.
        _declared.update((lake.address, *each) for each in _newest_versions(acts))
        newest = _newest(acts, key)
        if newest and newest["version"] == version:
            return []
        return [_derives(lake, key, version)]

    # Streams are polled in parallel: one of them reads the acts about all.
    with _declaring, suppress(LakeError):  # records of vendors are not kept waiting
        if known not in _declared or not rows:
            operator_acts.add(lake, missing, now)
            _declared.add(known)


def record(lake: Lake, key: StreamKey, version: int, now: datetime) -> None:
    """Record that `version` derives the events of all further rows. Raises LakeError."""
    operator_acts.record(lake, _derives(lake, key, version), now)


def finish(lake: Lake, key: StreamKey, version: int, now: datetime) -> None:
    """Record that no event of the stream is left of another version than `version`.

    Does nothing if signing is off, or if there never were such events. Raises LakeError.
    """

    def missing(acts: Acts) -> list[Act]:
        newest = _newest(acts, key)
        if newest is None or newest["version"] != version or not newest["from"]:
            return []
        done = any(_is(act, _RENORMALISED, key) for act in acts[acts.index(newest) :])
        return [] if done else [_act(_RENORMALISED, key, version)]

    if signer.of(lake, signer.ACTS) is not None:
        operator_acts.add(lake, missing, now)


def _derives(lake: Lake, key: StreamKey, version: int) -> Act:
    return {**_act(_MAPPING, key, version), "from": events.derived(lake, key)}


def _newest_versions(acts: Acts) -> list[tuple[StreamKey, int]]:
    """Return the streams with the version that derives their events from now on."""
    found = {act["log"]: act["version"] for act in acts if act.get("act") == _MAPPING}
    return [(StreamKey(*log.split("/")), version) for log, version in found.items()]


def _newest(acts: Acts, key: StreamKey) -> dict[str, Any] | None:
    """Return the newest act that states which version derives the events of a stream."""
    return next((act for act in reversed(acts) if _is(act, _MAPPING, key)), None)


def _is(act: Act, name: str, key: StreamKey) -> bool:
    return act.get("act") == name and act.get("log") == key.app


def _act(name: str, key: StreamKey, version: int) -> Act:
    return {"act": name, "table": events.TABLE.name, "log": key.app, "version": version}
