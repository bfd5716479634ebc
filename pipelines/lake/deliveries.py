"""The table `deliveries`: the outbox of alerts, with the position up to which findings are in it.

All its writers share one fence, the number of its rows, so that each commit is a decision about the
newest state. Messages and the position after the findings they are about are one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits, tables
from pipelines.lake.commits import Decision
from pipelines.lake.findings import DELIVERIES, FINDINGS
from pipelines.lake.tables import Lake

_POSITION = f"{DELIVERIES.name}/{FINDINGS.name}"
_FINAL = ("sent", "dead", "dropped")
_WITHOUT_PAYLOAD = [name for name in DELIVERIES.schema if name != "payload"]


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
        scanned = pl.scan_delta(handle)
        state = State(
            rows=_current(scanned, since),
            position=position,
            payloads=lambda chosen: _payloads(scanned, chosen),
        )
        if (wanted := decide(state)) is None:
            return None
        numbered = [{**row, "seq": count + n} for n, row in enumerate(wanted.rows)]
        moved = {} if wanted.position is None else {_POSITION: wanted.position}
        rows = pl.DataFrame(numbered, DELIVERIES.schema)
        return Decision(rows, count + rows.height, also_fences=moved)

    return commits.write(lake, DELIVERIES, DELIVERIES.name, decided, {}).frame.to_dicts()


def _current(scanned: pl.LazyFrame, since: datetime) -> pl.DataFrame:
    """Return the rows since a time, and those before it of deliveries that are not finished."""
    states = scanned.select("delivery", "revision", "seq", "state", "time").collect()
    newest = states.sort("revision", "seq").unique("delivery", keep="last")
    unfinished = newest.filter(~pl.col("state").is_in(_FINAL), pl.col("time") < since)
    wanted = pl.col("time") >= since
    if not unfinished.is_empty():
        wanted |= pl.col("delivery").is_in(unfinished["delivery"].to_list())
    return scanned.filter(wanted).select(_WITHOUT_PAYLOAD).collect().sort("seq")


def _payloads(scanned: pl.LazyFrame, chosen: Collection[str]) -> pl.DataFrame:
    if not chosen:
        return pl.DataFrame(schema=DELIVERIES.schema)
    named = pl.col("delivery").is_in(list(chosen))
    return scanned.filter(named, pl.col("payload").is_not_null()).collect().sort("seq")


def recorded(lake: Lake, since: datetime) -> pl.DataFrame:
    """Return the current rows (schemas.DELIVERIES) without payloads, by `seq`."""
    rows = tables.scan(lake, DELIVERIES.name)
    if rows is None:
        return pl.DataFrame(schema=DELIVERIES.schema)
    with tables.store_errors(DELIVERIES.name):
        return _current(rows, since)


def findings_after(lake: Lake, position: int, most: int) -> list[dict[str, Any]]:
    """Return the next findings (schemas.FINDINGS) from a position on, at most `most` rows."""
    rows = tables.scan(lake, FINDINGS.name)
    if rows is None:
        return []
    seq = pl.col("seq")
    with tables.store_errors(FINDINGS.name):
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
