"""Erasure: removes a person's records on request, after recording and signing which rows they are.

Whole records are removed, with all their versions. Their ids are kept as keyed hashes, so that no
re-read or backfill stores them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipelines import registry
from pipelines.integrity import erased_ids, operator_acts, removals, removing
from pipelines.lake import (
    deletions,
    events,
    identity_table,
    maintenance,
    raw,
    streams,
    tables,
)
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise

_DASHBOARD = {"access": ("about",), "views": ("name", "address")}
"""Tables of the dashboard, and their columns that contain searches and ids of events."""
_BETWEEN = "\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who erases, and why, such as the number of the request; the person is never recorded."""

    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The rows to be erased."""

    rows: Mapping[StreamKey, Sequence[int]]
    others: Mapping[str, Sequence[tuple[str, str]]]
    """Table that is not signed -> (column, value) of its rows that name the person."""

    @property
    def empty(self) -> bool:
        return not self.rows and not self.others


def of_person(lake: Lake, address: str, logs: Sequence[StreamKey]) -> Found:
    """Find all records that contain a person's address, or show an account of that person alone.

    On a disk, every stream is searched, elsewhere those in `logs`.
    """
    accounts = _accounts(lake, address)
    rows = {}
    for log in maintenance.streams_of(lake, logs):
        named = {*_named(lake, log, address, accounts), *_containing(lake, log, address)}
        if named:
            rows[log] = _all_versions(lake, log, named)
    return Found(rows=rows, others=_others(lake, address, rows))


def of_events(lake: Lake, integration: str, ids: Sequence[str], logs: Sequence[StreamKey]) -> Found:
    """Find the records with these event ids in the streams of an integration."""
    rows = {}
    for log in maintenance.streams_of(lake, logs):
        if log.integration == integration and (table := tables.scan(lake, log.table)) is not None:
            record = erased_ids.record_of(_version(lake, log))
            wanted = pl.col("event_id").is_in(list(ids)) | record.is_in(list(ids))
            seqs = table.filter(wanted).select("seq").collect()["seq"].to_list()
            if seqs:
                rows[log] = _all_versions(lake, log, set(seqs))
    return Found(rows=rows, others=_others(lake, None, rows))


def erase(lake: Lake, found: Found, request: Request, now: datetime) -> int:
    """Record and sign the erasure, and carry it out; return the number of erased records.

    Rows of tables that are not signed go first: it could not be found from the act.
    """
    signed = {log: removing.signed_rows(lake, log, now) for log in found.rows}
    for table, values in found.others.items():
        for column, value in values:
            deletions.delete_rows(lake, table, f"{column} = {tables.sql(value)}")
        deletions.vacuum(lake, table)
        if table in _DASHBOARD:
            deletions.forget_history(lake, table)
    count = 0
    for log, rows in found.rows.items():
        known = removals.within(pl.col("seq"), operator_acts.doomed(lake, log))
        fresh = pl.DataFrame({"seq": rows}).filter(pl.col("seq") < signed[log], ~known)
        if fresh.height:
            _record(lake, log, fresh["seq"].to_list(), request, now)
            count += fresh.height
    removing.finish(lake, now)
    return count


def _record(lake: Lake, log: StreamKey, seqs: list[int], request: Request, now: datetime) -> None:
    kept = removing.ledger(lake, log)
    ids = _rows(lake, log, seqs).select(erased_ids.record_of(_version(lake, log))).collect()
    digest = erased_ids.store(kept.folder, ids["event_id"].to_list())
    about = {"act": "erasure", "ids_sha256": digest, "who": request.who, "why": request.why}
    removing.record(lake, log, seqs, about, now)


def _rows(lake: Lake, log: StreamKey, seqs: Sequence[int]) -> pl.LazyFrame:
    return tables.existing(lake, log.table).filter(pl.col("seq").is_in(list(seqs)))


def _accounts(lake: Lake, address: str) -> list[tuple[str, str]]:
    """Return (integration, account) of all accounts that were seen with this address only."""
    always = identity_table.read(lake).always
    keys = always.filter(pl.col("person") == address.lower())["key"].to_list()
    return [(name, account) for name, _, account in (key.partition(_BETWEEN) for key in keys)]


def _named(
    lake: Lake, log: StreamKey, address: str, accounts: Sequence[tuple[str, str]]
) -> list[int]:
    """Return the rows whose events show the person as actor or target."""
    found = tables.scan(lake, events.TABLE.name)
    if found is None:
        return []
    ids = [account for integration, account in accounts if integration == log.integration]
    targets = pl.col("targets").list
    who = pl.any_horizontal(
        pl.col("actor_email", "actor_name", "target_name").str.to_lowercase() == address.lower(),
        pl.col("actor_id", "target_id").is_in(ids),
        targets.eval(pl.element().struct.field("id").is_in(ids)).list.any(),
        targets.eval(
            pl.element().struct.field("name").str.to_lowercase() == address.lower()
        ).list.any(),
    )
    seqs = found.filter(tables.of_stream(log), who).select("seq").collect()
    return seqs["seq"].to_list()


def _containing(lake: Lake, log: StreamKey, address: str) -> list[int]:
    """Return the rows whose record contains the address."""
    found = tables.scan(lake, log.table)
    return [] if found is None else _mentions(found, "raw", address)["seq"].to_list()


def _mentions(rows: pl.LazyFrame, column: str, address: str) -> pl.DataFrame:
    """Return the rows with the address in a column, as a whole and in any case."""
    text = pl.col(column).cast(pl.String, strict=False)
    near = text.str.to_lowercase().str.contains(address.lower(), literal=True)
    found = rows.filter(near).collect()
    whole = re.compile(rf"(?<![\w.+-]){re.escape(address)}(?![\w-]|\.\w)", re.IGNORECASE)
    kept = [whole.search(value) is not None for value in found.select(text).to_series()]
    return found.filter(pl.Series(kept, dtype=pl.Boolean))


def _all_versions(lake: Lake, log: StreamKey, seqs: set[int]) -> list[int]:
    """Return the rows of the same records as these, ascending.

    Without its newest version, an older one would be shown instead.
    """
    record = erased_ids.record_of(_version(lake, log))
    rows = tables.existing(lake, log.table).select("seq", record).collect()
    chosen = rows.filter(pl.col("seq").is_in(list(seqs)))
    found = rows.join(chosen, on="event_id", how="semi")["seq"]
    return found.unique().sort().to_list()


def _version(lake: Lake, log: StreamKey) -> pl.Expr | None:
    """Return the id without its version, for a stream whose vendor publishes records again."""
    known = streams.facts(lake).get(log)
    kind = registry.kind(known.kind if known and known.kind else log.integration)
    stream = next((each for each in kind.streams(None) if each.name == log.stream), None)
    return normalise.version_of(stream) if stream else None


def _others(
    lake: Lake, address: str | None, rows: Mapping[StreamKey, Sequence[int]]
) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of unsigned tables with the address, or with the id of one of the events."""
    found: dict[str, list[tuple[str, str]]] = {}
    rejected = tables.scan(lake, raw.REJECTED_TABLE.name)
    if rejected is not None and address:
        digests = _mentions(rejected, "raw", address)["raw_sha256"].unique()
        found[raw.REJECTED_TABLE.name] = [("raw_sha256", digest) for digest in digests]
    uids = _uids(lake, rows)
    for table, columns in _DASHBOARD.items():
        if (stored := tables.scan(lake, table)) is None:
            continue
        for column in columns:
            named = _mentions(stored, column, address)[column] if address else pl.Series([])
            opened = stored.filter(pl.col(column).is_in(uids)).select(column).collect()[column]
            values = {*named.to_list(), *opened.to_list()}
            found.setdefault(table, []).extend((column, value) for value in sorted(values))
    return {table: values for table, values in found.items() if values}


def _uids(lake: Lake, rows: Mapping[StreamKey, Sequence[int]]) -> list[str]:
    table = tables.scan(lake, events.TABLE.name)
    if table is None:
        return []
    found: list[str] = []
    for log, seqs in rows.items():
        ours = table.filter(tables.of_stream(log), pl.col("seq").is_in(list(seqs)))
        found += ours.select("event_uid").collect()["event_uid"].to_list()
    return found
