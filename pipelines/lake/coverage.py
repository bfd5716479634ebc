"""The table `coverage`: which spans of time were fetched, when, and with what outcome.

Raw commits carry the same entries in their metadata, so that rows and coverage are one commit;
`record` copies them here before the log that holds them is trimmed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import commits as lake_commits
from pipelines.lake import spans, tables
from pipelines.lake.commits import ROWS, Decision, Table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.schemas import COVERAGE

ENTRIES = "auditlake.coverage"
_SAME_FAILURE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a span of event time; the columns of schemas.COVERAGE say what they mean."""

    since: datetime
    until: datetime
    asked_at: datetime
    outcome: str = "complete"
    reason: str | None = None


TABLE = Table(
    name="coverage",
    schema=COVERAGE,
    about="What was asked for, and what came of it",
    partitions=("integration", "stream"),
)


def record(
    lake: Lake,
    log: StreamKey,
    claims: Sequence[Entry] = (),
    cursor: str | None = None,
    *,
    lag: timedelta | None = None,
) -> None:
    """Bring `coverage` up to date with what raw commits claim, then with these claims.

    Where the stream's `lag` is known, claims that say the same together are one row.
    """
    with tables.borrowed(lake, log.table) as raw:
        held = lake_commits.fence(raw, log.app) if raw else 0

        def decide(_: DeltaTable, seen: int) -> Decision | None:
            rows = _claimed(raw, seen) if raw else []
            rows += [{**asdict(claim), "rows": held, "cursor": None} for claim in claims]
            if lag is not None:
                # The newest stays: it says when this was noted.
                rows = spans.condensed(rows[:-1], lag) + rows[-1:]
            if rows and cursor:
                rows[-1]["cursor"] = cursor
            ours = (
                pl.lit(log.integration).alias("integration"),
                pl.lit(log.stream).alias("stream"),
            )
            return Decision(pl.DataFrame(rows, _COLUMNS).with_columns(ours), held) if rows else None

        lake_commits.write(lake, TABLE, log.app, decide, {})


def record_failure(lake: Lake, log: StreamKey, failed: Entry) -> None:
    """Like `note`, unless the same was noted last and less than an hour ago."""
    recent = pl.col("asked_at") > failed.asked_at - _SAME_FAILURE
    told = entries(lake, log).tail(1).filter(recent, pl.col("reason") == failed.reason)
    if told.is_empty():
        record(lake, log, [failed])


_COLUMNS = {name: dtype for name, dtype in COVERAGE.items() if name not in TABLE.partitions}


def _claimed(raw: DeltaTable, seen: int) -> list[dict[str, Any]]:
    """What the commits of a raw table claim that came after its first `seen` rows, oldest first."""
    return [
        {
            **claim,
            **{key: datetime.fromisoformat(claim[key]) for key in ("since", "until", "asked_at")},
            "rows": int(commit[ROWS]),
            "cursor": None,
        }
        for commit in reversed(_commits(raw, seen))
        for claim in json.loads(commit.get(ENTRIES, "[]"))
    ]


def _commits(raw: DeltaTable, seen: int) -> list[dict[str, Any]]:
    """The commits of ours after the first `seen` rows, newest first, as far as the log reaches."""
    limit = 8
    while True:
        # The log's newest, whatever the version of the handle: "version" cannot be relied on.
        commits = raw.history(limit)
        ours = [commit for commit in commits if ROWS in commit]
        if len(commits) < limit or (ours and int(ours[-1][ROWS]) <= seen):
            return [commit for commit in ours if int(commit[ROWS]) > seen]
        limit *= 4


def entries(lake: Lake, log: StreamKey) -> pl.DataFrame:
    """All that `coverage` holds of a stream, oldest first."""
    found = tables.scan(lake, TABLE.name)
    if found is None:
        return pl.DataFrame(schema=COVERAGE)
    with tables.store_errors(TABLE.name):
        return found.filter(tables.of_stream(log)).collect().sort("asked_at", maintain_order=True)


LastRecorded = tuple[datetime | None, int, str | None]


def last_recorded(lake: Lake, log: StreamKey) -> LastRecorded:
    """(when last, raw rows at the newest cursor, that cursor) by `coverage`."""
    ours = [("integration", "=", log.integration), ("stream", "=", log.stream)]
    with tables.store_errors(TABLE.name), tables.borrowed(lake, TABLE.name) as handle:
        if handle is None:
            return None, -1, None
        found = tables.scan_partitions(lake, handle, COVERAGE, ours)
        noted = found.select("asked_at", "rows", "cursor").collect()
    newest = noted.filter(pl.col("cursor").is_not_null()).sort("rows", "asked_at").tail(1)
    last = noted["asked_at"].max()
    _, rows, cursor = newest.row(0) if newest.height else (None, -1, None)
    return (last if isinstance(last, datetime) else None), rows, cursor
