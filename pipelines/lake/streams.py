"""The table `streams`: the facts about each stream that are needed to read its coverage.

They are in the lake, so that reading it takes neither the configuration nor any secret.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
from deltalake import DeltaTable

from pipelines.errors import LakeError
from pipelines.lake import commits, stream_state, tables, versions
from pipelines.lake.commits import DERIVED_PLAIN, Decision, Table
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import STREAMS
from pipelines.sdk import tenant
from pipelines.sdk.contract import Source, Stream

TABLE = Table(
    name="streams",
    schema=STREAMS,
    about="The properties of each stream, one row per stream",
    partitions=(),
    settings=DERIVED_PLAIN,
)
_MICROSECOND = timedelta(microseconds=1)

_reading = threading.Lock()
_recorded: dict[tuple[str, StreamKey], Facts] = {}
"""The facts in each lake as far as this process knows them, so that a poll need not read them."""


def facts_of(source: Source, stream: Stream) -> Facts:
    return Facts(
        kind=source.kind,
        title=source.integration.title,
        lag=stream.lag,
        keeps=stream.keeps,
        tenant=tenant.dump(source.integration.tenant(source.settings, stream)),
    )


def facts(lake: Lake) -> dict[StreamKey, Facts]:
    """Return the facts per stream as they were polled last; none in a lake of an older version."""
    with tables.store_errors(TABLE.name):
        if (found := versions.listed(lake, TABLE.name, STREAMS)) is None:
            return {}
        rows = found.whole(lake)
        return {StreamKey(*key): each for key, each in stream_state.facts(rows).items()}


def record(lake: Lake, key: StreamKey, current: Facts, now: datetime) -> None:
    """Write the facts of a stream unless the lake holds them already; they replace older ones.

    Raises LakeError if the lake contains the stream of another tenant.
    """
    where = lake.address
    if _recorded.get((where, key)) == current:
        return
    with _reading:  # integrations are polled in parallel: one of them reads the facts of all
        if _recorded.get((where, key)) == current:
            return
        stored = facts(lake)
        for each, known in stored.items():
            _recorded.setdefault((where, each), known)
    if stored.get(key) != _of_one_tenant(key, stored.get(key, Facts()), current):
        _replace(lake, key, current, now)
    _recorded[where, key] = current


def _of_one_tenant(key: StreamKey, stored: Facts, current: Facts) -> Facts:
    """Return the current facts with all that is known about the tenant."""
    known, given = tenant.load(stored.tenant), tenant.load(current.tenant)
    if name := tenant.difference(known, given):
        raise LakeError(
            f"{key.table} is the log of another tenant ({name} {known[name]}), and now {name} is "
            f"{given[name]}: correct it, or give the other tenant an integration of another name "
            "or a lake of its own"
        )
    return replace(current, tenant=tenant.dump(tenant.merged(known, given)))


def _replace(lake: Lake, key: StreamKey, current: Facts, now: datetime) -> None:
    def decide(handle: DeltaTable, seen: int) -> Decision:
        # Another process may have recorded the stream since, for another tenant.
        stored = stream_state.facts(pl.scan_delta(handle)).get(key, Facts()) if seen else Facts()
        row = _row(key, _of_one_tenant(key, stored, current), now)
        # The first row of a stream is appended, which conflicts with no other stream's.
        return Decision(row, seen + 1, tables.stream_predicate(key) if seen else None)

    commits.write(lake, TABLE, f"{TABLE.name}/{key.app}", decide, {})


def _row(key: StreamKey, current: Facts, now: datetime) -> pl.DataFrame:
    row = {
        "integration": key.integration,
        "stream": key.stream,
        "kind": current.kind,
        "title": current.title,
        "lag": current.lag // _MICROSECOND,
        "keeps": None if current.keeps is None else current.keeps // _MICROSECOND,
        "recorded_at": now,
        "tenant": current.tenant or None,
    }
    return pl.DataFrame([row], STREAMS)
