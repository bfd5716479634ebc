"""Retention: deletes whole days of a raw table, after recording and signing the deletion.

The hashes stay, so all proofs and checkpoints remain valid; only the records are deleted, with
everything that was derived from them. A run that was killed is finished by the next one, or by
maintenance, from the recorded act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, removals, removing
from pipelines.integrity.removing import finish
from pipelines.lake import events, maintenance, raw, reconciliation, tables, versions
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings.retention import RetentionSettings

_ALL_ROWS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The days to delete, who deletes them, and why."""

    log: StreamKey
    before: date
    """Delete whole UTC days before this one."""
    who: str
    why: str


def rows(lake: Lake, removal: Removal) -> pl.DataFrame:
    """Return seq and date of the rows that the removal would delete, by seq."""
    table = tables.scan(lake, removal.log.table)
    if table is None:
        raise LakeError(f"{removal.log.table}: no such table: give one such as raw/okta/system_log")
    return table.filter(pl.col("date") < removal.before).select("seq", "date").collect().sort("seq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The rows of one table that a removal would delete, and their first and last day."""

    table: str
    rows: int
    first: date
    last: date


def planned(lake: Lake, removal: Removal) -> list[Planned]:
    """Return the rows the removal would delete, without changing anything, the raw table first.

    The tables that are derived from `events` are left out.
    """
    doomed = removing.of_days(removal.log, removal.before, _ALL_ROWS)
    found = [_planned(lake, removal.log.table, pl.sql_expr(doomed.rows), pl.col("date"))]
    of_days = tables.of_stream(removal.log) & (pl.col("date") < removal.before)
    others = (reconciliation.ECHOES_TABLE, reconciliation.RECONCILED_TABLE)
    for table in (events.TABLE.name, *(each.name for each in others)):
        found.append(_planned(lake, table, of_days, pl.col("date")))
    digests = pl.col("raw_sha256").is_in(removing.rejected(lake, doomed))
    ours = tables.of_stream(removal.log) & digests
    found.append(_planned(lake, raw.REJECTED_TABLE.name, ours, pl.col("ingested_at").dt.date()))
    return [each for each in found if each]


def _planned(lake: Lake, table: str, condition: pl.Expr, day: pl.Expr) -> Planned | None:
    found = tables.scan(lake, table)
    if found is None:
        return None
    figures = found.filter(condition).select(rows=pl.len(), first=day.min(), last=day.max())
    row = figures.collect().row(0, named=True)
    return Planned(table=table, **row) if row["rows"] else None


def due(
    lake: Lake, kept: RetentionSettings, logs: Sequence[StreamKey], now: datetime
) -> list[Removal]:
    """Return the removals that the settings require today, of streams that have older rows.

    On a disk these may be streams that are not configured any more; elsewhere those in `logs`.
    """
    today = _today(lake, now)
    if today is None or not kept.days:
        return []
    found = []
    for log in maintenance.streams_of(lake, logs):
        days = kept.kept(*log)
        if days is None:
            continue
        before = today - timedelta(days=days)
        if min(raw.days(lake, log), default=today) < before:
            why = f"{kept.why} ({days} days)"
            found.append(Removal(log=log, before=before, who="maintenance", why=why))
    return found


def unknown(lake: Lake, kept: RetentionSettings, logs: Sequence[StreamKey]) -> list[str]:
    """Return the names in the settings that belong to no stream, neither configured nor stored."""
    stored = {name.removeprefix("raw/") for name in maintenance.tables_of(lake, logs)}
    streams = stored | {log.app for log in logs}
    integrations = {name.partition("/")[0] for name in streams}
    return sorted(kept.days.keys() - streams - integrations)


def _today(lake: Lake, now: datetime) -> date | None:
    """Return the day of the newest event, or today if that is earlier; None without events.

    So a clock that is ahead of the vendors' deletes nothing too early.
    """
    found = versions.newest(lake, events.TABLE.name)
    days = found.dates() if found else []
    return min(days[-1], now.date()) if days else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A removal that was recorded and carried out, or the reason why not."""

    table: str
    before: date | None = None
    rows: int = 0
    error: str | None = None


def apply(
    lake: Lake, kept: RetentionSettings, logs: Sequence[StreamKey], now: datetime
) -> list[Applied]:
    """Apply the periods in the settings, and finish earlier removals that were killed.

    An error about one stream does not stop the others.
    """
    done = []
    for removal in due(lake, kept, logs, now):
        table = removal.log.table
        try:
            rows = record(lake, removal, now)
            done.append(Applied(table=table, before=removal.before, rows=rows))
        except LakeError as error:
            done.append(Applied(table=table, before=removal.before, error=str(error)))
    try:
        finish(lake, now)
    except LakeError as error:
        done.append(Applied(table="retention", error=str(error)))
    return done


def remove(lake: Lake, removal: Removal, now: datetime) -> int:
    """Record and sign the removal, then permanently delete the rows and all derived from them.

    Return the number of deleted rows. Raises LakeError if signing is off.
    """
    count = record(lake, removal, now)
    finish(lake, now)
    return count


def record(lake: Lake, removal: Removal, now: datetime) -> int:
    """Record and sign the removal, for `finish` to carry out; return the number of its rows.

    Nothing is recorded if there is no row to delete. Raises LakeError if signing is off.
    """
    signed = removing.signed_rows(lake, removal.log, now)
    listed = removals.within(pl.col("seq"), operator_acts.doomed(lake, removal.log))
    gone = rows(lake, removal).filter(pl.col("seq") < signed, ~listed)
    if gone.height:
        _record(lake, removal, gone, now)
    return gone.height


def _record(lake: Lake, removal: Removal, gone: pl.DataFrame, now: datetime) -> None:
    about = {
        "act": "retention",
        "before": removal.before.isoformat(),
        "since": str(gone["date"].min()),
        "who": removal.who,
        "why": removal.why,
    }
    removing.record(lake, removal.log, gone["seq"].to_list(), about, now)
