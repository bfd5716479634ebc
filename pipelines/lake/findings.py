"""The tables of detections: findings, evaluations, and decisions about findings.

`findings` is append-only and numbered by `seq`. A commit of findings also moves the positions of
the streams whose rows were evaluated, and names the evaluations, which are copied to a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import polars as pl
from deltalake import DeltaTable

from pipelines import schemas
from pipelines.lake import commits, log, pruning, tables
from pipelines.lake.commits import SETTINGS, STATISTICS, Decision, Table
from pipelines.lake.tables import Lake
from pipelines.sdk.record_versions import SAME_TIME

Span = tuple[datetime, datetime]
SEQ = "findings"
"""The fence that counts the rows of `findings`."""
HIT = ("correlation", "logic_sha256", "rule_id", "event")
"""What a hit is: of two rows with the same, which a kill may leave, one counts."""
BETWEEN = "\0"
_ENTRIES = "auditlake.evaluations"
_SMALL = {"delta.appendOnly": "true"}
FINDINGS = Table(
    name="findings",
    schema=schemas.FINDINGS,
    about="Findings of rules in the events",
    settings={**SETTINGS, STATISTICS: "seq,time,found_at"},
)
HITS = Table(
    name="hits",
    schema=schemas.HITS,
    about="Matches of the rules of correlations",
    settings={**SETTINGS, STATISTICS: "time"},
)


class _Log(NamedTuple):
    table: str = FINDINGS.name
    app: str = SEQ


LOG = _Log()
"""The findings as a log whose rows are signed."""
EVALUATIONS = Table(
    name="evaluations",
    schema=schemas.EVALUATIONS,
    about="Which rows each set of rules was evaluated on",
    partitions=(),
    settings=_SMALL,
)
RULESETS = Table(
    name="rulesets",
    schema=schemas.RULESETS,
    about="The rules that evaluations refer to",
    partitions=(),
    settings=_SMALL,
)
TRIAGE = Table(
    name="triage",
    schema=schemas.TRIAGE,
    about="Decisions about findings",
    partitions=(),
    settings=_SMALL,
)
EXCEPTIONS = Table(
    name="exceptions",
    schema=schemas.EXCEPTIONS,
    about="Exceptions from rules, recorded in the dashboard",
    partitions=(),
    settings=_SMALL,
)
DELIVERIES = Table(
    name="deliveries",
    schema=schemas.DELIVERIES,
    about="Alerts to be sent, and their delivery",
    partitions=(),
    settings={**SETTINGS, STATISTICS: "seq,time"},
)
TABLES = (FINDINGS, HITS, EVALUATIONS, RULESETS, TRIAGE, EXCEPTIONS, DELIVERIES)


@dataclass(frozen=True, slots=True)
class Stored:
    """The findings that a commit is decided on; later ones make it start again."""

    _lake: Lake
    _handle: DeltaTable

    def position(self, app: str) -> int:
        """Return how many rows of a stream a set of rules has evaluated."""
        return commits.fence(self._handle, app)

    def on(self, days: Iterable[date], within: Span | None = None) -> pl.LazyFrame:
        """Return the findings of these days; files without any time `within` are left out."""
        found = _files(self._handle, days, within)
        return pruning.scan(self._lake, FINDINGS.name, schemas.FINDINGS, found)

    def lacking(self, found: pl.DataFrame) -> pl.DataFrame:
        """Return those of `found` that are not stored yet, each once."""
        once = found.unique("finding_uid", keep="first", maintain_order=True)
        if once.is_empty():
            return once
        # All versions of a record have the same time, but for less precision of some.
        times = once["time"].unique().sort()
        days = {(time + shift).date() for time in times for shift in (-SAME_TIME, SAME_TIME)}
        near = times[0] - SAME_TIME, times[-1] + SAME_TIME
        known = self.on(days, near).select("finding_uid").collect()
        return once.join(known, on="finding_uid", how="anti", maintain_order="left")


class Evaluated(NamedTuple):
    """A commit of findings to be made."""

    findings: pl.DataFrame
    """Rows of schemas.FINDINGS without `seq`, in order."""
    positions: Mapping[str, int]
    """App ids -> rows of their streams that are evaluated then."""
    evaluations: Sequence[Mapping[str, Any]]
    """Rows of schemas.EVALUATIONS."""


def commit(lake: Lake, decide: Callable[[Stored], Evaluated | None]) -> pl.DataFrame:
    """Commit findings with positions and evaluations, and return the findings with `seq`.

    `decide` is called again after each lost race. Raises LakeError.
    """
    metadata: dict[str, str] = {}

    def decided(handle: DeltaTable, rows: int) -> Decision | None:
        made = decide(Stored(lake, handle))
        if made is None:
            return None
        metadata[_ENTRIES] = json.dumps(made.evaluations, default=str)
        seq = pl.int_range(rows, rows + pl.len(), dtype=pl.Int64).alias("seq")
        found = made.findings.with_columns(seq)
        return Decision(found, rows + found.height, also_fences=made.positions)

    return commits.write(lake, FINDINGS, SEQ, decided, metadata).frame


def count(lake: Lake) -> int:
    """Return how many findings were ever written."""
    return positions(lake, [SEQ])[SEQ]


def positions(lake: Lake, apps: Iterable[str]) -> dict[str, int]:
    """Return how many rows of their streams these sets of rules have evaluated."""
    with tables.store_errors(FINDINGS.name), tables.borrowed(lake, FINDINGS.name) as handle:
        return {app: commits.fence(handle, app) if handle else 0 for app in apps}


def provisional(lake: Lake) -> pl.DataFrame:
    """Return the findings whose newest revision is provisional."""
    with tables.store_errors(FINDINGS.name), tables.borrowed(lake, FINDINGS.name) as handle:
        return provisional_at(handle)


def provisional_at(handle: DeltaTable | None) -> pl.DataFrame:
    """As `provisional`, of an open table."""

    def read(handle: DeltaTable) -> pl.DataFrame:
        rows = pl.scan_delta(handle).filter(pl.col("provisional") | (pl.col("revision") > 0))
        # Few are, and only these columns are read of all.
        narrow = rows.select("finding_uid", "revision", "provisional").collect()
        newest = narrow.sort("revision").unique("finding_uid", keep="last").filter("provisional")
        if newest.is_empty():
            return pl.DataFrame(schema=schemas.FINDINGS)
        key = ["finding_uid", "revision"]
        found = rows.select(*schemas.FINDINGS).join(newest.lazy().select(key), on=key, how="semi")
        return found.collect()

    if handle is None:
        return pl.DataFrame(schema=schemas.FINDINGS)
    with tables.store_errors(FINDINGS.name):
        return tables.cached(handle, "provisional", partial(read, handle))


def flush(lake: Lake) -> None:
    """Copy the evaluations that commits of findings name to their table, each once.

    To be called before the log of `findings` is trimmed.
    """
    with tables.store_errors(FINDINGS.name), tables.borrowed(lake, FINDINGS.name) as handle:
        flush_at(lake, handle)


def flush_at(lake: Lake, handle: DeltaTable | None) -> None:
    """As `flush`, up to the version of an open table."""
    if handle is None:
        return
    versions = handle.version() + 1

    def decide(_: DeltaTable, seen: int) -> Decision | None:
        if seen >= versions:
            return None
        # Some commits name none, as those that recognise persons.
        rows = _evaluations(handle, seen, versions)
        return Decision(rows, versions) if rows.height else None

    commits.write(lake, EVALUATIONS, f"{FINDINGS.name}/{handle.metadata().id}", decide, {})


def _evaluations(handle: DeltaTable, seen: int, until: int) -> pl.DataFrame:
    """Return the evaluations in the versions [seen, until), as far as the log reaches."""
    found = list(takewhile(lambda each: each["version"] >= seen, log.history(handle)))
    rows = [
        {**entry, "evaluated_at": datetime.fromisoformat(entry["evaluated_at"])}
        for each in reversed(found)
        if each["version"] < until
        for entry in json.loads(each.get(_ENTRIES, "[]"))
    ]
    return pl.DataFrame(rows, schemas.EVALUATIONS)


def failures(lake: Lake, since: datetime) -> pl.DataFrame:
    """Return the newest evaluations, since a time, of rules that failed on a stream."""
    key = ["integration", "stream", "rule_id"]
    apart = pl.col("rule_id").is_not_null() & (pl.col("evaluated_at") >= since)
    with tables.store_errors(EVALUATIONS.name), tables.borrowed(lake, EVALUATIONS.name) as handle:
        if handle is None:
            return pl.DataFrame(schema=schemas.EVALUATIONS)
        files = pruning.with_values(pruning.files(handle), "rule_id")
        rows = pruning.scan(lake, EVALUATIONS.name, schemas.EVALUATIONS, files)
        found = rows.filter(apart).collect().sort("evaluated_at", "until_seq", maintain_order=True)
    newest = found.unique(key, keep="last", maintain_order=True)
    return newest.filter(pl.col("error").is_not_null())


def register(lake: Lake, sets: Mapping[str, str], now: datetime) -> None:
    """Record sets of rules, JSON by its SHA-256, each once."""

    def decide(handle: DeltaTable, count: int) -> Decision | None:
        known = set(_rulesets(handle))
        rows = [
            {"ruleset": digest, "recorded_at": now, "rules": text}
            for digest, text in sets.items()
            if text not in known
        ]
        return Decision(pl.DataFrame(rows, schemas.RULESETS), count + len(rows)) if rows else None

    commits.write(lake, RULESETS, RULESETS.name, decide, {})


def rulesets(lake: Lake) -> list[str]:
    """Return all sets of rules that were recorded, as JSON."""
    with tables.store_errors(RULESETS.name), tables.borrowed(lake, RULESETS.name) as handle:
        return _rulesets(handle) if handle else []


def _rulesets(handle: DeltaTable) -> list[str]:
    def read() -> list[str]:
        return pl.scan_delta(handle).select("rules").collect()["rules"].to_list()

    return tables.cached(handle, "rules", read)


def is_nobodys() -> pl.Expr:
    """Return the condition for hits whose person is not known yet."""
    some = pl.col("group").list.eval(pl.element().is_null()).list.any()
    return pl.col("account").is_not_null() & some


def nobodys_hits(lake: Lake, since: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the hits since a day whose person is not known yet, and those that were recognised."""
    rows = tables.scan(lake, HITS.name)
    if rows is None:
        return pl.DataFrame(schema=schemas.HITS), pl.DataFrame(schema=schemas.HITS)
    ours = rows.filter(pl.col("date") >= since, pl.col("account").is_not_null())
    with tables.store_errors(HITS.name):
        found = ours.select(*schemas.HITS).collect()
    known = found.filter(~is_nobodys())
    return found.filter(is_nobodys()).join(known, on=HIT, how="anti").unique(HIT), known


def append_hits(lake: Lake, rows: pl.DataFrame) -> None:
    """Append rows (schemas.HITS). Before their position moves, so that a kill repeats some."""
    if rows.height:
        commits.append(lake, HITS, rows.select(pl.col(c).cast(t) for c, t in schemas.HITS.items()))


def key() -> pl.Expr:
    """Return the group of a hit as one text."""
    return pl.col("group").list.join(BETWEEN)


def hits(
    lake: Lake, days: Iterable[date], chosen: pl.DataFrame, within: Span | None = None
) -> pl.DataFrame:
    """Return the hits on these days of chosen groups; a kill may repeat some.

    `chosen` has `correlation`, `logic_sha256` and `key` of each group, and from `since` to before
    `until` the times of its hits. Files without any time `within` are left out.
    """
    on = ["correlation", "logic_sha256", "key"]
    with tables.store_errors(HITS.name), tables.borrowed(lake, HITS.name) as handle:
        if handle is None:
            return pl.DataFrame(schema=schemas.HITS)
        files = _files(handle, days, within)
        # One condition for all: dozens of them take longer than to read the rows.
        some = pl.col("correlation").is_in(chosen["correlation"].unique().implode())
        some &= key().is_in(chosen["key"].unique().implode()) & ~is_nobodys()
        some &= pl.col("time").is_between(chosen["since"].min(), chosen["until"].max(), "left")
        rows = pruning.matching(lake, HITS.name, schemas.HITS, files, [some])
        found = rows.with_columns(key().alias("key")).join(chosen.lazy(), on=on).collect()
    ours = pl.col("time").is_between(pl.col("since"), pl.col("until"), "left")
    return found.filter(ours).select(*schemas.HITS)


def _files(handle: DeltaTable, days: Iterable[date], within: Span | None) -> pl.DataFrame:
    """Return the files that may have rows of some days, with a time `within`."""
    found = pruning.of_days(pruning.files(handle), pl.Series([*days], dtype=pl.Date))
    return pruning.overlapping(found, "time", *within) if within else found


def exceptions(lake: Lake) -> pl.DataFrame:
    """Return all rows of the table of exceptions."""
    rows = tables.scan(lake, EXCEPTIONS.name)
    return pl.DataFrame(schema=EXCEPTIONS.schema) if rows is None else rows.collect()
