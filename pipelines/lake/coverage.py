"""The table `coverage`: the spans of time that were fetched, when, and with which outcome.

Raw commits contain the same entries in their metadata, so rows and coverage are one commit;
`record` copies them here before the Delta log that contains them is trimmed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits as lake_commits
from pipelines.lake import parquet, spans, stream_state, tables, versions
from pipelines.lake.commits import ROWS, Decision, Table
from pipelines.lake.stream_state import Facts, History
from pipelines.lake.tables import Lake, StreamKey
from pipelines.lake.versions import Logged
from pipelines.schemas import COVERAGE, RAW

ENTRIES = "auditlake.coverage"
_SAME_FAILURE = timedelta(hours=1)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The outcome of fetching a span of event time; see schemas.COVERAGE for the columns."""

    since: datetime
    until: datetime
    asked_at: datetime
    outcome: str = "complete"
    reason: str | None = None


TABLE = Table(
    name="coverage",
    schema=COVERAGE,
    about="Time ranges that were fetched, and the outcome",
    partitions=("integration", "stream"),
    settings={**lake_commits.SETTINGS, lake_commits.STATISTICS: "asked_at"},
)


def record(
    lake: Lake,
    key: StreamKey,
    new: Sequence[Entry] = (),
    cursor: str | None = None,
    *,
    lag: timedelta | None = None,
) -> None:
    """Append the entries of raw commits since the last call, then `new`, with the `cursor`.

    If the stream's `lag` is given, entries that can be expressed by fewer rows are condensed.
    """
    with versions.glimpsed(lake, key.table, RAW) as raw:
        stored = raw.fence(key.app) if raw else 0

        def decide(_: DeltaTable, seen: int) -> Decision | None:
            rows = _entries_of_commits(raw.history(), seen) if raw and stored > seen else []
            rows += [{**asdict(entry), "rows": stored, "cursor": None} for entry in new]
            if lag is not None:
                rows = spans.condensed(rows, lag)
            if rows and cursor:
                rows[-1]["cursor"] = cursor
            ours = (
                pl.lit(key.integration).alias("integration"),
                pl.lit(key.stream).alias("stream"),
            )
            if not rows:
                return None
            return Decision(pl.DataFrame(rows, _COLUMNS).with_columns(ours), stored)

        lake_commits.write(lake, TABLE, key.app, decide, {})


def correct(
    lake: Lake,
    key: StreamKey,
    *,
    later_than: datetime,
    since: datetime | None,
    polled_at: datetime,
) -> None:
    """Correct the entries that are later than `later_than`: a wrong clock has recorded them.

    They keep the spans they cover up to `since`, as if polled at `polled_at`. Each is cancelled by
    an entry with the same times and the outcome "void", since the table is append-only.
    """
    record(lake, key)  # also those that only raw commits contain so far
    late = (pl.col("asked_at") > later_than) | (pl.col("until") > later_than)
    wrong = entries(lake, key).filter(late).with_columns(cursor=pl.lit(None, pl.String))
    if wrong.is_empty():
        return
    covers = pl.col("outcome") == "complete"
    limit = pl.when(covers).then(pl.lit(since or _NEVER)).otherwise(polled_at)
    right = wrong.with_columns(
        pl.min_horizontal("since", pl.lit(polled_at)),
        pl.min_horizontal("until", limit),
        asked_at=pl.min_horizontal("asked_at", pl.lit(polled_at)),
    ).filter(~covers | (pl.col("since") < pl.col("until")))
    void = wrong.with_columns(outcome=pl.lit("void"), reason=pl.lit("recorded by a wrong clock"))
    lake_commits.append(lake, TABLE, pl.concat([right, void]).select(*COVERAGE))


def record_failure(lake: Lake, key: StreamKey, failed: Entry) -> None:
    """Record a failure, unless the last entry is the same and less than an hour old."""
    recent = pl.col("asked_at") > failed.asked_at - _SAME_FAILURE
    same = entries(lake, key).tail(1).filter(recent, pl.col("reason") == failed.reason)
    if same.is_empty():
        record(lake, key, [failed])


_COLUMNS = {name: dtype for name, dtype in COVERAGE.items() if name not in TABLE.partitions}


def _entries_of_commits(commits: Iterable[dict[str, Any]], seen: int) -> list[dict[str, Any]]:
    """Return the entries in raw commits after the first `seen` rows, oldest first.

    `commits` are the newest ones first, as far as the log reaches.
    """
    ours = (commit for commit in commits if ROWS in commit)
    news = list(takewhile(lambda commit: int(commit[ROWS]) > seen, ours))
    return [
        {
            **entry,
            **{
                name: datetime.fromisoformat(entry[name]) for name in ("since", "until", "asked_at")
            },
            "rows": int(commit[ROWS]),
            "cursor": None,
        }
        for commit in reversed(news)
        for entry in json.loads(commit.get(ENTRIES, "[]"))
    ]


def entries(lake: Lake, key: StreamKey) -> pl.DataFrame:
    """Return all entries of a stream (schemas.COVERAGE), oldest first."""
    handle = tables.newest(lake, TABLE.name)
    if handle is None:
        return pl.DataFrame(schema=COVERAGE)
    with tables.store_errors(TABLE.name):
        ours = stream_state.valid(parquet.scan(handle, _partition(key)))
        # An older table has the columns in another order.
        return ours.select(*COVERAGE).collect().sort("asked_at", maintain_order=True)


def _partition(key: StreamKey) -> list[tuple[str, str, str]]:
    return [("integration", "=", key.integration), ("stream", "=", key.stream)]


def history(lake: Lake, key: StreamKey, facts: Facts) -> History:
    """Return the stream's history up to its last commit; writes nothing."""
    return histories(lake, {key: facts})[key]


def histories(
    lake: Lake, facts: Mapping[StreamKey, Facts], raws: Mapping[StreamKey, Logged] | None = None
) -> dict[StreamKey, History]:
    """Return the histories of these streams up to their last commits; writes nothing.

    `raws` are the raw tables that exist, if they are known.
    """
    known = _known(lake, facts)
    newest = known.group_by(stream_state.KEY).agg(pl.col("rows").max())
    seen = {StreamKey(*names): rows for *names, rows in newest.iter_rows()}

    # An entry that was copied here meanwhile is in both, which changes nothing.
    def more(key: StreamKey) -> pl.DataFrame:
        rows = seen.get(key) or 0
        return pending(lake, key, rows) if raws is None else pending_of(raws.get(key), key, rows)

    rows = pl.concat([known, *tables.at_once(lake, more, facts)])
    found = stream_state.histories(rows.lazy(), dict(facts.items()))
    return {key: found[key] for key in facts}


def _known(lake: Lake, keys: Collection[StreamKey]) -> pl.DataFrame:
    """Return all entries of these streams (schemas.COVERAGE), oldest first."""
    if len(keys) == 1:
        return entries(lake, *keys)
    with tables.store_errors(TABLE.name):
        if (found := versions.listed(lake, TABLE.name, COVERAGE)) is None:
            return pl.DataFrame(schema=COVERAGE)
        rows = stream_state.valid(found.whole(lake)).select(*COVERAGE).collect()
    ours = pl.DataFrame(list(keys), dict.fromkeys(stream_state.KEY, pl.String), orient="row")
    return rows.join(ours, on=stream_state.KEY, how="semi").sort("asked_at", maintain_order=True)


def pending(lake: Lake, key: StreamKey, seen: int) -> pl.DataFrame:
    """Return the entries (schemas.COVERAGE) of the raw commits after the first `seen` rows."""
    with tables.store_errors(key.table), versions.glimpsed(lake, key.table, RAW) as raw:
        return pending_of(raw, key, seen)


def pending_of(raw: Logged | None, key: StreamKey, seen: int) -> pl.DataFrame:
    """As `pending`, of a raw table whose log is known."""
    with tables.store_errors(key.table):
        news = raw is not None and raw.fence(key.app) > seen
        return _named(_entries_of_commits(raw.history(), seen) if raw and news else [], key)


def _named(entries: Sequence[Mapping[str, Any]], key: StreamKey) -> pl.DataFrame:
    ours = pl.lit(key.integration).alias("integration"), pl.lit(key.stream).alias("stream")
    return pl.DataFrame(entries, _COLUMNS).with_columns(ours).select(*COVERAGE)


def keys(lake: Lake) -> set[StreamKey]:
    """Return the streams that `coverage` has rows of."""
    with tables.store_errors(TABLE.name):
        found = versions.listed(lake, TABLE.name, COVERAGE)
        parts = found.partitions() if found else []
    return {StreamKey(part["integration"], part["stream"]) for part in parts}


class LastRecorded(NamedTuple):
    """The newest state of a stream in `coverage`."""

    at: datetime | None = None
    """Up to when polls are recorded; a backfill, whose entries end earlier, does not move it."""
    rows: int = -1
    """Raw rows when the newest cursor was recorded."""
    cursor: str | None = None
    failed: bool = False
    """Whether the newest answer is a failure."""


def last_recorded(lake: Lake, key: StreamKey) -> LastRecorded:
    """Return up to when polls are recorded, and the newest cursor with its number of raw rows."""
    with tables.store_errors(TABLE.name), tables.borrowed(lake, TABLE.name) as handle:
        if handle is None:
            return LastRecorded()

        def read() -> LastRecorded:
            names = ("since", "until", "asked_at", "rows", "cursor", "outcome")
            found = tables.scan_partitions(lake, handle, COVERAGE, _partition(key))
            return _last_recorded(found.select(*names).collect())

        return tables.cached(handle, key, read)


def _last_recorded(recorded: pl.DataFrame) -> LastRecorded:
    valid = stream_state.valid(recorded.lazy(), ()).collect()
    answers = valid.filter(pl.col("outcome").is_in(spans.ANSWERS))
    newest = answers.filter(pl.col("asked_at") == pl.col("asked_at").max())
    at = answers.select(pl.min_horizontal(pl.col("until", "asked_at").max())).item()
    failed = newest["outcome"].eq("failed").any()
    moved = valid.filter(pl.col("cursor").is_not_null()).sort("rows", "asked_at").tail(1)
    if moved.is_empty():
        return LastRecorded(at=at, failed=failed)
    rows, cursor = moved.select("rows", "cursor").row(0)
    return LastRecorded(at=at, rows=rows, cursor=cursor, failed=failed)
