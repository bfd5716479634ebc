"""The table `deliveries`: the outbox of alerts, with the position up to which findings are in it.

All its writers share one fence, the number of its rows, so that each commit is a decision about the
newest state. Messages and the position after the findings they are about are one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, pruning, tables
from pipelines.lake.commits import Decision
from pipelines.lake.findings import DELIVERIES, FINDINGS
from pipelines.lake.tables import Lake

_POSITION = f"{DELIVERIES.name}/{FINDINGS.name}"
_FINAL = ("sent", "dead", "dropped")
_WITHOUT_PAYLOAD = {name: t for name, t in DELIVERIES.schema.items() if name != "payload"}
_MOST_LAKES = 4


class _Read(NamedTuple):
    """The rows of a version, without payloads."""

    version: int
    paths: frozenset[str]
    rows: pl.DataFrame


_NOTHING = _Read(-1, frozenset(), pl.DataFrame(schema=_WITHOUT_PAYLOAD))
_read: dict[str, _Read] = {}
"""Address of a lake -> what was read last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The newest state that a change is decided on."""

    rows: pl.DataFrame
    """Rows by `seq`, without their payloads."""
    position: int
    """How many rows of `findings` have been dealt with."""
    payloads: Callable[[Collection[str]], pl.DataFrame]
    """Returns the rows of some deliveries that have a payload, by `seq`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """New rows (schemas.DELIVERIES) without `seq`."""
    position: int | None = None
    """The new position in `findings`, if it moves."""


def change(
    lake: Lake, since: datetime, decide: Callable[[State], Change | None]
) -> list[dict[str, Any]]:
    """Commit a change, decided on the current rows, and return the new ones.

    `decide` is called again after each lost race; None: there is nothing to change. Raises
    LakeError.
    """

    def decided(handle: DeltaTable, count: int) -> Decision | None:
        position = commits.fence(handle, _POSITION)
        rows = _rows(lake, handle)
        state = State(
            rows=_current(rows, since),
            position=position,
            payloads=lambda chosen: _payloads(lake, handle, rows, chosen),
        )
        if (wanted := decide(state)) is None:
            return None
        numbered = [{**row, "seq": count + n} for n, row in enumerate(wanted.rows)]
        moved = {} if wanted.position is None else {_POSITION: wanted.position}
        added = pl.DataFrame(numbered, DELIVERIES.schema)
        return Decision(added, count + added.height, also_fences=moved)

    return commits.write(lake, DELIVERIES, DELIVERIES.name, decided, {}).frame.to_dicts()


def _rows(lake: Lake, handle: DeltaTable) -> pl.DataFrame:
    """Return all rows without payloads, by `seq`; of files that were read before, from memory.

    Each state of a message is a commit, so that there are many small files until the next
    maintenance. A data file never changes.
    """
    files = pruning.files(handle)
    paths, version = frozenset(files["path"]), handle.version()
    known = _read.get(lake.address, _NOTHING)
    if paths == known.paths:
        return known.rows
    if version < known.version and paths < known.paths:  # another thread has read a later one
        return known.rows.filter(pl.col("seq") < commits.fence(handle, DELIVERIES.name))
    if not known.paths <= paths:
        known = _NOTHING
    new = files.filter(pl.col("path").is_in(list(paths - known.paths)))
    found = pruning.scan(lake, DELIVERIES.name, _WITHOUT_PAYLOAD, new).collect()
    rows = pl.concat([known.rows, found]).sort("seq")
    _read.pop(lake.address, None)
    _read[lake.address] = _Read(version, paths, rows)
    while len(_read) > _MOST_LAKES:
        _read.pop(next(iter(_read)), None)
    return rows


def _current(rows: pl.DataFrame, since: datetime) -> pl.DataFrame:
    """Return the rows since a time, and those before it of deliveries that are not finished."""
    newest = rows.sort("revision", "seq").unique("delivery", keep="last")
    unfinished = newest.filter(~pl.col("state").is_in(_FINAL), pl.col("time") < since)
    named = pl.col("delivery").is_in(unfinished["delivery"].implode())
    return rows.filter((pl.col("time") >= since) | named)


def _payloads(
    lake: Lake, handle: DeltaTable, rows: pl.DataFrame, chosen: Collection[str]
) -> pl.DataFrame:
    named = pl.col("delivery").is_in(list(chosen))
    files = pruning.containing(pruning.files(handle), "seq", rows.filter(named)["seq"])
    found = pruning.scan(lake, DELIVERIES.name, DELIVERIES.schema, files)
    return found.filter(named, pl.col("payload").is_not_null()).collect().sort("seq")


def recorded(lake: Lake, since: datetime) -> pl.DataFrame:
    """Return the current rows (schemas.DELIVERIES) without payloads, by `seq`."""
    handle = tables.newest(lake, DELIVERIES.name)
    if handle is None:
        return pl.DataFrame(schema=_WITHOUT_PAYLOAD)
    with tables.store_errors(DELIVERIES.name):
        return _current(_rows(lake, handle), since)


def findings_after(lake: Lake, position: int, most: int) -> list[dict[str, Any]]:
    """Return the next findings (schemas.FINDINGS) from a position on, at most `most` rows."""
    handle = tables.newest(lake, FINDINGS.name)
    if handle is None:
        return []
    seq = pl.col("seq")
    with tables.store_errors(FINDINGS.name):
        files = pruning.overlapping(pruning.files(handle), "seq", position, None)
        if files.is_empty():
            return []
        rows = pruning.scan(lake, FINDINGS.name, FINDINGS.schema, files)
        # The numbers first, since rows are large, and removed ones leave holes.
        next_ = rows.filter(seq >= position).select("seq").collect()["seq"].bottom_k(most)
        if next_.is_empty():
            return []
        chosen = rows.filter(seq.is_between(next_.min(), next_.max()))
        return chosen.collect().sort("seq").to_dicts()


def has_news(lake: Lake) -> bool:
    """Return whether there are findings after the position."""
    with tables.borrowed(lake, DELIVERIES.name) as handle:
        position = 0 if handle is None else commits.fence(handle, _POSITION)
    return bool(findings_after(lake, position, 1))
