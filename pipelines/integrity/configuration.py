"""Signed acts about changes of the configuration: what is polled, and how long it is kept.

Each act holds one part as it is from then on, without any setting that could be secret.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pipelines.errors import AuditlakeError
from pipelines.integrity import operator_acts, signer
from pipelines.integrity.operator_acts import Act, Acts
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.settings.retention import RetentionSettings

_CONFIGURATION = "configuration"

_declared: set[tuple[str, str]] = set()
"""(lake, configuration) that this process knows to be recorded, so that rounds read no acts."""


def declare(lake: Lake, sources: Sequence[Source], kept: RetentionSettings, now: datetime) -> None:
    """Record the parts of the configuration that changed since they were recorded last.

    `sources` are all that are configured. If the log of acts cannot be written, the next call
    retries, and a verification reports the reason.
    """
    current = _parts(sources, kept)
    known = (lake.address, json.dumps(current))

    def missing(recorded: Acts) -> list[Act]:
        ours = [act for act in recorded if act.get("act") == _CONFIGURATION]
        last = {str(act["part"]): act["now"] for act in ours}
        names = sorted({*last, *current})
        changed = [name for name in names if last.get(name) != current.get(name)]
        return [{"act": _CONFIGURATION, "part": n, "now": current.get(n)} for n in changed]

    with suppress(AuditlakeError, OSError):  # records of vendors are not kept waiting
        acts = signer.of(lake, signer.ACTS)
        if acts and not (known in _declared and acts.folder.get("checkpoint")):
            operator_acts.add(lake, missing, now)
            _declared.add(known)


def _parts(sources: Sequence[Source], kept: RetentionSettings) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {
        f"integrations/{source.name}": {
            "kind": source.kind,
            "streams": {
                stream.name: dict(source.integration.tenant(source.settings, stream))
                for stream in source.streams()
            },
        }
        for source in sources
    }
    return {**parts, "retention": kept.model_dump()} if kept.days else parts
