"""Retention: deletes whole days of a raw table, after recording and signing the deletion.

The hashes stay, so all proofs and checkpoints remain valid; only the records are deleted, with
everything that was derived from them. A run that was killed is finished by the next one, or by
maintenance, from the recorded act.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from typing import Any

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, removals, signer, tiles
from pipelines.integrity.merkle import WIDTH
from pipelines.integrity.signer import SignedLog
from pipelines.lake import (
    commits,
    deletions,
    events,
    identity_table,
    maintenance,
    raw,
    reconciliation,
    rollup_table,
    tables,
    versions,
)
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
    """Return what the removal would delete, without changing anything, the raw table first.

    The tables that are derived from `events` are left out.
    """
    doomed = _Doomed(log=removal.log, before=removal.before, until=_ALL_ROWS)
    found = [_planned(lake, removal.log.table, pl.sql_expr(doomed.rows), pl.col("date"))]
    of_days = tables.of_stream(removal.log) & pl.sql_expr(doomed.days)
    for table in ("events", reconciliation.ECHOES_TABLE.name, reconciliation.RECONCILED_TABLE.name):
        found.append(_planned(lake, table, of_days, pl.col("date")))
    digests = pl.col("raw_sha256").is_in(_rejected(lake, doomed))
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
    found = []
    for table in maintenance.tables_of(lake, logs) if today and kept.days else ():
        log = StreamKey(*table.split("/")[1:]) if table.startswith("raw/") else None
        days = kept.kept(*log) if log else None
        if (
            log
            and today
            and days
            and min(raw.days(lake, log), default=today) < (before := today - timedelta(days=days))
        ):
            why = f"{kept.why} ({days} days)"
            found.append(Removal(log=log, before=before, who="maintenance", why=why))
    return found


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
    """Remove what the settings require, and finish earlier removals that were killed.

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
    kept = signer.of(lake, removal.log.app)
    if kept is None:
        raise LakeError("retention must be recorded and signed: set integrity.sign = true")
    # Sign first: rows without a checkpoint could otherwise never be proved to have existed.
    signed = raw.position(lake, removal.log).rows
    signer.sign(lake, removal.log, signed, now)
    listed = removals.within(pl.col("seq"), operator_acts.doomed(lake, removal.log))
    gone = rows(lake, removal).filter(pl.col("seq") < signed, ~listed)
    if gone.height:
        _record(lake, kept, removal, gone, now)
    return gone.height


def _record(
    lake: Lake, kept: SignedLog, removal: Removal, gone: pl.DataFrame, now: datetime
) -> None:
    listed = json.dumps(_spans(gone["seq"].to_list())).encode()
    digest, head = sha256(listed).hexdigest(), signer.published(kept)
    kept.folder.put(f"removed/{digest}.json", listed)
    # Without the rows, neither this list nor the tiles could be rebuilt.
    kept.folder.flush()
    act = {
        "act": "retention",
        "table": removal.log.table,
        "before": removal.before.isoformat(),
        "since": str(gone["date"].min()),
        "rows": gone.height,
        "rows_sha256": digest,
        "who": removal.who,
        "why": removal.why,
        "checkpoint": head.text if head else None,
    }
    operator_acts.record(lake, act, now)


def _spans(seqs: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for seq in seqs:
        if spans and spans[-1][1] == seq:
            spans[-1] = spans[-1][0], seq + 1
        else:
            spans.append((seq, seq + 1))
    return spans


def finish(lake: Lake, now: datetime) -> list[str]:
    """Carry out all recorded removals that are not finished, and record that they are.

    Return their tables. Whenever this is killed, the lake can be verified, and the next call
    continues: events are deleted first, and a raw row may be there without its events if an act
    lists it; a file of `events` stays until nothing that was derived from it is left.
    """
    acts = operator_acts.recorded(lake)
    doomed = [each for act in removals.unfinished(acts) for each in _doomed(lake, act)]
    if not doomed:
        return []
    for each in doomed:
        _delete_neighbours(lake, each)
        deletions.delete_rows(lake, events.TABLE.name, f"{each.stream} AND {each.rows}")
        deletions.delete_rows(lake, each.log.table, each.rows)
        # A round may have derived some of them between the two.
        deletions.delete_rows(lake, events.TABLE.name, f"{each.stream} AND {each.rows}")
    identity_table.forget(lake)
    rollup_table.forget(lake)
    logs = list(dict.fromkeys(each.log for each in doomed))
    for table in (*(log.table for log in logs), *_NEIGHBOURS):
        _settle(lake, table)
    deletions.vacuum(lake, events.TABLE.name)
    for log in logs:
        _prune(lake, log)
    operator_acts.record(lake, {"act": removals.FINISHED, "acts": len(acts)}, now)
    return [log.table for log in logs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doomed:
    """The rows that an act removes, as SQL."""

    log: StreamKey
    before: date
    until: int
    """Rows from this one on landed after the act."""

    @property
    def days(self) -> str:
        return f"date < DATE '{self.before}'"

    @property
    def rows(self) -> str:
        # Late records of these days may land at any moment: only recorded rows are deleted.
        return f"{self.days} AND seq < {self.until}"

    @property
    def stream(self) -> str:
        return tables.stream_predicate(self.log)


def _doomed(lake: Lake, act: Mapping[str, Any]) -> Iterator[_Doomed]:
    """Yield what an act removes; nothing if its table is gone altogether."""
    log = StreamKey(*str(act["table"]).split("/")[1:])
    kept = signer.of(lake, log.app)
    if kept is None or tables.open_table(lake, log.table) is None:
        return
    listed = removals.listed(kept.folder, act)
    if not listed:
        raise LakeError(
            f"{log.table}: the list of the rows that an act of retention removed is missing or "
            "altered: run `auditlake verify`"
        )
    until = max(until for _, until in listed)
    yield _Doomed(log=log, before=date.fromisoformat(act["before"]), until=until)


_NEIGHBOURS = tuple(
    table.name
    for table in (raw.REJECTED_TABLE, reconciliation.ECHOES_TABLE, reconciliation.RECONCILED_TABLE)
)


def _delete_neighbours(lake: Lake, doomed: _Doomed) -> None:
    """Delete the echoes, comparisons and rejected records of these days."""
    for table in (reconciliation.ECHOES_TABLE, reconciliation.RECONCILED_TABLE):
        deletions.delete_rows(lake, table.name, f"{doomed.stream} AND {doomed.days}")
    if digests := _rejected(lake, doomed):
        listed = ", ".join(f"'{digest}'" for digest in digests)
        ours = f"{doomed.stream} AND raw_sha256 IN ({listed})"
        deletions.delete_rows(lake, raw.REJECTED_TABLE.name, ours)


def _rejected(lake: Lake, doomed: _Doomed) -> list[str]:
    """Return the digests of rejected records that arrived on these days or became these rows."""
    found, stored = (
        tables.scan(lake, name) for name in (raw.REJECTED_TABLE.name, doomed.log.table)
    )
    if found is None or stored is None:
        return []
    ours = found.filter(tables.of_stream(doomed.log)).select("raw_sha256", "ingested_at").collect()
    if ours.is_empty():
        return []
    removed = pl.col("date") < doomed.before, pl.col("seq") < doomed.until
    became = stored.filter(*removed).select("raw_sha256").collect()
    midnight = datetime.combine(doomed.before, time(), UTC)
    gone = (pl.col("ingested_at") < midnight) | pl.col("raw_sha256").is_in(
        became["raw_sha256"].implode()
    )
    return ours.filter(gone)["raw_sha256"].to_list()


def _settle(lake: Lake, table: str) -> None:
    """Delete the former files of a table; one that an older auditlake left open is closed again."""
    if tables.open_table(lake, table) is None:
        return
    if table != reconciliation.RECONCILED_TABLE.name:
        commits.set_append_only(lake, table, wanted=True)
    deletions.vacuum(lake, table)


def _prune(lake: Lake, log: StreamKey) -> None:
    """Delete the entry bundles that cover only removed rows, since they contain event ids."""
    kept = signer.of(lake, log.app)
    if kept is None:
        return
    for first, until in removals.merged(signer.removed(lake, log.app)):
        for index in range(-(-first // WIDTH), until // WIDTH):
            kept.folder.delete([tiles.path("entries", index)])
