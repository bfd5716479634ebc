"""The format of a table: which auditlake may write it, as a property of the table.

A program completes tables of an older format before it writes to them, and refuses those of a newer
one. Whatever changes the columns or the meaning of stored values raises FORMAT.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

from deltalake import DeltaTable

from pipelines.errors import NewerLake

FORMAT = 2
"""1: without this property, by auditlake 0.1.0. 2: with descriptions and statistics per table."""
_FORMAT, _WRITER = "auditlake.format", "auditlake.version"
_FIRST, _NOT_KNOWN = 1, 2**31


def properties() -> dict[str, str]:
    """Return the properties that mark a table as one of this format."""
    return {_FORMAT: str(FORMAT), _WRITER: metadata.version("auditlake")}


def of(handle: DeltaTable) -> int:
    """Return the format of a table."""
    return _format(handle.metadata().configuration)


def _format(properties: Mapping[str, str]) -> int:
    found = properties.get(_FORMAT, str(_FIRST))
    return int(found) if found.isdecimal() and len(found) < 9 else _NOT_KNOWN


def check(table: str, handle: DeltaTable) -> None:
    """Raise NewerLake if a newer auditlake has written the table."""
    check_properties(table, handle.metadata().configuration)


def check_properties(table: str, properties: Mapping[str, str]) -> None:
    """As `check`, of a table with these properties."""
    if _format(properties) <= FORMAT:
        return
    ours, theirs = metadata.version("auditlake"), properties.get(_WRITER, "")
    wanted = f">={theirs}" if theirs.replace(".", "").isalnum() and len(theirs) < 20 else ""
    raise NewerLake(
        f"{table}: written by a newer auditlake than this one ({ours}); nothing was changed: run "
        f"`pip install --upgrade 'auditlake{wanted}'`"
    )
