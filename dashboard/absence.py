"""Why a lake has no events: none came yet, or those that it had are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NEXT = (
    "If it was moved, correct `lake.root` in auditlake.toml. Otherwise restore it from a backup "
    "and run `auditlake verify`. If it was removed on purpose, `auditlake poll` begins a new one."
)
_DERIVE = "The next `auditlake poll` derives their events again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    title: str
    lines: tuple[str, ...]
    """Markdown without any text from the lake."""


def explained(seen: int | None, records: Mapping[str, int | None]) -> Absence | None:
    """Return the facts about missing events; None if there never were any.

    `seen` is the version of `events` that this server has read before. `records` has the number of
    rows of each raw table, and None for a table that was signed but is gone.
    """
    kept = sum(n or 0 for n in records.values())
    gone = sum(n is None for n in records.values())
    if seen is not None:
        return _vanished(f"Version {seen} of the events was shown here, and is gone.", kept)
    if kept:
        line = f"The raw tables have {kept:,} records without events."
        return Absence(title="No events yet", lines=(line, _DERIVE))
    if gone:
        what = "1 raw table that was" if gone == 1 else f"{gone:,} raw tables that were"
        return _vanished(f"The lake lacks {what} signed on this machine.", kept)
    return None


def _vanished(line: str, kept: int) -> Absence:
    if kept:
        more = f"{kept:,} records are left in the raw tables."
        check = f"Check them with `auditlake verify`. {_DERIVE}"
        return Absence(title="The table of events has vanished", lines=(line, more, check))
    return Absence(title="The lake has vanished", lines=(line, _NEXT))
