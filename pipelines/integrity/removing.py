"""Removes rows for good: records and signs which, and then deletes them with all derived from them.

A removal of whole days (retention) and one of single rows (erasure) differ in the rows only. The
hashes stay, so all proofs and checkpoints remain valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import sha256
from itertools import chain
from typing import Any

import polars as pl

from pipelines.errors import LakeError
from pipelines.integrity import (
    last_signed,
    operator_acts,
    removals,
    removed_findings,
    signer,
    tiles,
)
from pipelines.integrity.signer import SignedLog
from pipelines.lake import (
    commits,
    deletions,
    events,
    findings,
    identity_table,
    raw,
    reconciliation,
    rollup_table,
    tables,
    text_index_table,
)
from pipelines.lake.tables import Lake, Numbered, StreamKey

NEIGHBOURS = (raw.REJECTED_TABLE, reconciliation.ECHOES_TABLE, reconciliation.RECONCILED_TABLE)
"""The tables with rows about the records of a stream that are not derived from `events`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """The rows that an act removes."""

    log: StreamKey
    rows: str
    """They, as SQL on the columns that raw and `events` share."""
    before: date | None = None
    """If whole days are removed: the day after the last one."""

    @property
    def stream(self) -> str:
        return tables.stream_predicate(self.log)

    @property
    def days(self) -> str | None:
        return f"date < DATE '{self.before}'" if self.before else None


def of_days(log: StreamKey, before: date, until: int) -> Doomed:
    """Return the rows of the days before one; rows from `until` on landed after the act."""
    # Late records of these days may land at any moment: only recorded rows are deleted.
    return Doomed(log=log, rows=f"date < DATE '{before}' AND seq < {until}", before=before)


def of_rows(log: StreamKey, seqs: Iterable[int]) -> Doomed:
    return Doomed(log=log, rows=f"seq IN ({', '.join(map(str, seqs))})")


def ledger(lake: Lake, log: Numbered) -> SignedLog:
    """Return the signed log of a table. Raises LakeError if signing is off."""
    kept = signer.of(lake, log.app)
    if kept is None:
        raise LakeError("a deletion must be recorded and signed: set integrity.sign = true")
    return kept


def signed_rows(lake: Lake, log: StreamKey, now: datetime) -> int:
    """Sign all rows and return their number.

    Rows without a checkpoint could never be proved to have existed. Raises LakeError if signing is
    off.
    """
    ledger(lake, log)
    rows = raw.position(lake, log).rows
    signer.sign(lake, log, rows, now)
    return rows


def record(
    lake: Lake, log: Numbered, seqs: Sequence[int], about: Mapping[str, Any], now: datetime
) -> None:
    """Record and sign that these rows are removed, for `finish` to carry out."""
    kept = ledger(lake, log)
    listed = json.dumps(spans(seqs)).encode()
    digest, head = sha256(listed).hexdigest(), signer.published(kept)
    kept.folder.put(f"removed/{digest}.json", listed)
    # Without the rows, neither this list nor the tiles could be rebuilt.
    kept.folder.flush()
    act = {
        **about,
        "table": log.table,
        "rows": len(seqs),
        "rows_sha256": digest,
        "checkpoint": head.text if head else None,
    }
    operator_acts.record(lake, act, now)


def spans(seqs: Iterable[int]) -> removals.Spans:
    return removals.merged((seq, seq + 1) for seq in seqs)


def finish(lake: Lake, now: datetime) -> list[str]:
    """Carry out all recorded removals that are not finished, and record that they are.

    Return their tables. Whenever this is killed, the lake can be verified, and the next call
    continues: findings and events are deleted first, and a raw row may be there without them if an
    act lists it; a file of `events` stays until nothing that was derived from it is left.
    """
    acts = operator_acts.recorded(lake)
    doomed = [each for act in removals.unfinished(acts) for each in _doomed(lake, act)]
    if not doomed:
        return []
    # Before anything is deleted: the rows say which findings are about them.
    _record_findings(lake, doomed, now)
    acts = operator_acts.recorded(lake)
    lost = operator_acts.doomed(lake, findings.LOG)
    for each in doomed:
        removed_findings.delete_hits(lake, each.log, each.rows, each.days)
    removed_findings.delete(lake, [seq for span in lost for seq in range(*span)])
    for each in doomed:
        _delete_neighbours(lake, each)
        deletions.delete_rows(lake, events.TABLE.name, f"{each.stream} AND {each.rows}")
        deletions.delete_rows(lake, each.log.table, each.rows)
        # A round may have derived some of them between the two.
        deletions.delete_rows(lake, events.TABLE.name, f"{each.stream} AND {each.rows}")
    identity_table.forget(lake)
    rollup_table.forget(lake)
    text_index_table.forget(lake)
    logs = list(dict.fromkeys(each.log for each in doomed))
    besides = (*NEIGHBOURS, *removed_findings.TABLES)
    for table in (*(log.table for log in logs), *(table.name for table in besides)):
        _settle(lake, table)
    # Its log has statistics of texts.
    deletions.forget_history(lake, findings.TRIAGE.name)
    deletions.vacuum(lake, events.TABLE.name)
    for log in logs:
        _forget_entries(lake, log, operator_acts.doomed(lake, log))
    if lost:
        _forget_entries(lake, findings.LOG, lost)
    operator_acts.record(lake, {"act": removals.FINISHED, "acts": len(acts)}, now)
    return [log.table for log in logs]


def _record_findings(lake: Lake, doomed: Iterable[Doomed], now: datetime) -> None:
    """Record and sign that the findings about these rows are removed, each once."""
    found = sorted(
        {s for each in doomed for s in removed_findings.about(lake, each.log, each.rows)}
    )
    known = removals.within(pl.col("seq"), operator_acts.doomed(lake, findings.LOG))
    fresh = pl.DataFrame({"seq": found}, {"seq": pl.Int64}).filter(~known)
    if fresh.height:
        signer.sign(lake, findings.LOG, findings.count(lake), now)
        about = {"act": "removal of findings", "why": "rows that they are about are removed"}
        record(lake, findings.LOG, fresh["seq"].to_list(), about, now)


def _doomed(lake: Lake, act: Mapping[str, Any]) -> Iterator[Doomed]:
    """Yield the rows that an act removes; nothing if its table is gone altogether."""
    if act["table"] == findings.LOG.table:
        return  # they go with the rows that they are about
    log = StreamKey(*str(act["table"]).split("/")[1:])
    kept = signer.of(lake, log.app)
    if kept is None or tables.open_table(lake, log.table) is None:
        return
    listed = removals.listed(kept.folder, act)
    if not listed:
        raise LakeError(
            f"{log.table}: the list of the rows that an act removed is missing or altered: run "
            "`auditlake verify`"
        )
    if "before" in act:
        until = max(until for _, until in listed)
        yield of_days(log, date.fromisoformat(act["before"]), until)
    else:
        yield of_rows(log, chain.from_iterable(range(*span) for span in listed))


def _delete_neighbours(lake: Lake, doomed: Doomed) -> None:
    """Delete the echoes and rejected copies of the rows, and the comparisons of whole days."""
    echoes, compared = (table.name for table in NEIGHBOURS[1:])
    if doomed.days:
        deletions.delete_rows(lake, echoes, f"{doomed.stream} AND {doomed.days}")
        deletions.delete_rows(lake, compared, f"{doomed.stream} AND {doomed.days}")
    else:
        _delete_listed(lake, echoes, doomed, "event_id", _values(lake, doomed, "event_id"))
    _delete_listed(lake, raw.REJECTED_TABLE.name, doomed, "raw_sha256", rejected(lake, doomed))


def _delete_listed(
    lake: Lake, table: str, doomed: Doomed, column: str, values: Sequence[str]
) -> None:
    if values:
        condition = f"{doomed.stream} AND {column} IN ({tables.sql(*values)})"
        deletions.delete_rows(lake, table, condition)


def _values(lake: Lake, doomed: Doomed, column: str) -> list[str]:
    """Return the values of a column in the rows that are still there."""
    stored = tables.scan(lake, doomed.log.table)
    if stored is None:
        return []
    return stored.filter(pl.sql_expr(doomed.rows)).select(column).collect()[column].to_list()


def rejected(lake: Lake, doomed: Doomed) -> list[str]:
    """Return the digests of rejected records that became these rows, or arrived on these days."""
    found = tables.scan(lake, raw.REJECTED_TABLE.name)
    if found is None:
        return []
    ours = found.filter(tables.of_stream(doomed.log)).select("raw_sha256", "ingested_at").collect()
    if ours.is_empty():
        return []
    gone = pl.col("raw_sha256").is_in(_values(lake, doomed, "raw_sha256"))
    if doomed.before:
        gone |= pl.col("ingested_at") < datetime.combine(doomed.before, time(), UTC)
    return ours.filter(gone)["raw_sha256"].to_list()


def _settle(lake: Lake, table: str) -> None:
    """Delete the former files of a table; one that an older auditlake left open is closed again."""
    if tables.open_table(lake, table) is None:
        return
    if table != reconciliation.RECONCILED_TABLE.name:
        commits.set_append_only(lake, table, wanted=True)
    deletions.vacuum(lake, table)


def _forget_entries(lake: Lake, log: Numbered, fresh: removals.Spans) -> None:
    """Delete the entries of removed rows next to the tiles, since they contain event ids."""
    kept = ledger(lake, log)
    with last_signed.alone(kept.place, kept.table):
        tiles.forget_entries(kept.folder, removals.merged(signer.removed(lake, log.app)), fresh)
