"""When each stream was last asked, for `poll_every`; politeness only, kept in a temporary folder.

Losing it costs one early question and nothing else, so it is no part of the lake.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from pipelines.lake import Lake, Log


def due(lake: Lake, log: Log, floor: timedelta | None) -> bool:
    """May `log` be asked, `floor` being the least time between two questions? Then it counts."""
    mark = _mark(lake, log)
    if floor and mark.exists() and time.time() - mark.stat().st_mtime < floor.total_seconds():
        return False
    mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.touch()
    return True


def _mark(lake: Lake, log: Log) -> Path:
    root = str(lake.local.resolve()) if lake.local else lake.root
    folder = hashlib.sha256(root.encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else 0
    return (
        Path(tempfile.gettempdir()) / f"auditlake-{user}" / folder / f"{log.app.replace('/', '.')}"
    )
