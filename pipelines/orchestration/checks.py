"""What is asked of the tables after each round, and of all their rows every night."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from pipelines.clock import utc_now
from pipelines.extraction import renormalise
from pipelines.integrity import anchors, reports, signer
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.verify import Crew
from pipelines.lake import raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration.naming import (
    EVENTS,
    WHOLE,
    Figures,
    files_of,
    greatest,
    key_of,
    op,
    short,
    stamp,
)
from pipelines.sdk.contract import Source, Stream
from pipelines.settings import IntegritySettings

SAMPLE_CHECK = "follows_from_raw"
SIGNED_CHECK = "as_signed"
_SAMPLED = 200  # records of a stream that are derived again and compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A raw table to be judged, with the statistics of its files."""

    lake: Lake
    log: StreamKey
    stream: Stream
    handle: DeltaTable
    files: pl.DataFrame
    rows: int
    """What the fence says."""
    now: datetime
    whole: bool = False
    """Whether to read all of it rather than its statistics and its newest days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    passed: bool
    description: str
    figures: Figures


def opened(lake: Lake, log: StreamKey, stream: Stream, now: datetime, whole: bool) -> Table | None:
    handle = tables.open_table(lake, log.table)
    if handle is None:
        return None
    return Table(
        lake=lake,
        log=log,
        stream=stream,
        handle=handle,
        files=files_of(handle),
        rows=handle.transaction_version(log.app) or 0,
        now=now,
        whole=whole,
    )


def fresh(table: Table) -> Verdict:
    """Has something arrived within twice the longest silence this stream is known for?"""
    arrived = greatest(table.files, "max.ingested_at")
    if arrived is None:
        return Verdict(passed=True, description="nothing has come yet", figures={})
    times = (
        pl.scan_delta(table.handle)
        .filter(pl.col("seq") >= table.rows - 20_000)
        .select(pl.col("time").sort().diff().max())
        .collect()
        .item()
    )
    allowed = max(timedelta(hours=1), 2 * (times or timedelta(0))) + table.stream.lag
    silence = table.now - arrived
    return Verdict(
        passed=silence <= allowed,
        description=f"last arrival {short(silence)} ago; expected within {short(allowed)}",
        figures={
            "last arrival": stamp(arrived),
            "silent for seconds": round(silence.total_seconds(), 1),
            "expected within seconds": round(allowed.total_seconds(), 1),
        },
    )


def _unique(table: Table) -> Verdict:
    """The same id has the same time, so duplicates can only be in the same day."""
    dates = table.files["partition.date"].unique().sort(descending=True)
    looked_at = dates if table.whole else dates.head(2)
    counted = (
        pl.scan_delta(table.handle)
        .filter(pl.col("date").is_in(looked_at.to_list()))
        .group_by("date")
        .agg(rows=pl.len(), ids=pl.col("event_id").n_unique())
        .sum()
        .collect()
    )
    rows, ids = counted["rows"].item(), counted["ids"].item()
    return Verdict(
        passed=rows == ids,
        description=f"{rows - ids:,} of {rows:,} rows in {looked_at.len()} days are duplicates",
        figures={"rows looked at": rows, "duplicates": rows - ids, "days": looked_at.len()},
    )


def _dense(table: Table) -> Verdict:
    """seq goes from 0 to rows - 1: by count, least and greatest; in whole by every value.

    What recorded acts of retention removed may be missing.
    """
    held = int(table.files["num_records"].sum())
    ends = (table.files["min.seq"].min(), table.files["max.seq"].max()) if held else (None, None)
    distinct = held
    if table.whole:
        seq = pl.scan_delta(table.handle).select(pl.col("seq").n_unique())
        distinct = seq.collect().item()
    found = (distinct, *ends)
    dense = found == _without(table.rows, []) or found == _without(
        table.rows, signer.removed(table.lake, table.log.app)
    )
    return Verdict(
        passed=held == distinct and dense,
        description=f"{held:,} rows, {distinct:,} values of seq from {ends[0]!s} to {ends[1]!s}; "
        f"the fence says {table.rows:,}",
        figures={"rows": held, "rows by the fence": table.rows},
    )


def _without(rows: int, gone: Sequence[tuple[int, int]]) -> tuple[int, int | None, int | None]:
    """(count, least, greatest) of the values of seq below `rows` that are in none of the spans."""
    left, at = list[tuple[int, int]](), 0
    for first, until in [*gone, (rows, rows)]:
        if first > at:
            left.append((at, first))
        at = max(at, until)
    count = sum(until - first for first, until in left)
    return (count, left[0][0], left[-1][1] - 1) if left else (0, None, None)


def _none_rejected(table: Table) -> Verdict:
    waiting = raw.still_rejected(table.lake, table.log)
    reasons = waiting.group_by("reason").len().sort("len", descending=True)
    count = int(reasons["len"].sum())
    said = ", ".join(f"{number:,} x {reason}" for reason, number in reasons.head(3).iter_rows())
    return Verdict(passed=count == 0, description=said or "none", figures={"rejected": count})


_CHECKS: dict[str, tuple[Callable[[Table], Verdict], dg.AssetCheckSeverity, str]] = {
    "freshness": (
        fresh,
        dg.AssetCheckSeverity.WARN,
        "Something arrived within twice the longest silence the stream is known for.",
    ),
    "unique_event_id": (
        _unique,
        dg.AssetCheckSeverity.ERROR,
        "No event_id twice: in the newest two days; in all days in the job whole_tables.",
    ),
    "dense_seq": (
        _dense,
        dg.AssetCheckSeverity.ERROR,
        "seq has no gap: by statistics; by every value in the job whole_tables.",
    ),
    "nothing_rejected": (
        _none_rejected,
        dg.AssetCheckSeverity.WARN,
        "All that came could be read as a record; the rest is in the table `rejected`.",
    ),
}


def checks_of(lake: Lake, source: Source, stream: Stream) -> dg.AssetChecksDefinition:
    log = StreamKey(source.name, stream.name)

    @dg.multi_asset_check(
        name=f"check__{op(log)}",
        specs=[
            dg.AssetCheckSpec(name, asset=key_of(log), description=description)
            for name, (_, _, description) in _CHECKS.items()
        ],
        can_subset=True,
    )
    def checked(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        table = opened(lake, log, stream, utc_now(), WHOLE in context.run.tags)
        for chosen in sorted(context.selected_asset_check_keys):
            judge, severity, _ = _CHECKS[chosen.name]
            verdict = judge(table) if table else _NOTHING
            yield dg.AssetCheckResult(
                asset_key=chosen.asset_key,
                check_name=chosen.name,
                passed=verdict.passed,
                severity=severity,
                description=verdict.description,
                metadata=verdict.figures,
            )

    return checked


_NOTHING = Verdict(passed=True, description="there is no table yet", figures={})


def follows_from_raw(lake: Lake, sources: Sequence[Source]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=EVENTS,
        name=SAMPLE_CHECK,
        description="Sampled rows are what raw gives when they are derived again.",
    )
    def follows_from_raw() -> dg.AssetCheckResult:
        seed = utc_now().toordinal()
        verdicts = {
            f"{source.name} {history.stream.name}": renormalise.check(
                history, rows=_SAMPLED, seed=seed
            )
            for source in sources
            for history in renormalise.histories(lake, source)
        }
        stale = [where for where, verdict in verdicts.items() if verdict.stale]
        wrong = [where for where, verdict in verdicts.items() if not verdict.sound]
        return dg.AssetCheckResult(
            passed=not (stale or wrong),
            severity=dg.AssetCheckSeverity.ERROR if wrong else dg.AssetCheckSeverity.WARN,
            description=_advice(wrong, stale),
            metadata={"events compared": sum(v.events for v in verdicts.values())},
        )

    return follows_from_raw


def _advice(wrong: Sequence[str], stale: Sequence[str]) -> str:
    if wrong:
        return f"differ from raw: {', '.join(wrong)}; run renormalise_events with everything"
    return f"of an older mapping: {', '.join(stale)}; run renormalise_events" if stale else "sound"


def verification(
    lake: Lake, chosen: IntegritySettings, sources: Sequence[Source]
) -> dg.AssetChecksDefinition:
    """Reads what came since the last time; all of it in the job whole_tables."""
    kinds = {source.name: source.kind for source in sources}
    specs = [
        dg.AssetCheckSpec(
            SIGNED_CHECK,
            asset=key_of(StreamKey(source.name, stream.name)),
            description="Every row is as it was signed, none is missing, none was slipped in.",
        )
        for source in sources
        for stream in source.streams()
    ]

    @dg.multi_asset_check(name="compare_with_signed", specs=specs, can_subset=True)
    def verification(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        where = reports.place(lake, chosen)
        for fault in anchors.deliver(where.memory, chosen):
            context.log.warning(f"anchor {fault}")
        full, begun = WHOLE in context.run.tags, verify.tables(where)
        for check in sorted(context.selected_asset_check_keys):
            table = "/".join(check.asset_key.path)
            known = [table] if table in begun else []
            found = list(reports.verdicts(where, known, kinds, Crew(1), full=full))
            reports.keep(lake, found)
            yield _as_signed(check, found)

    return verification


def _as_signed(check: dg.AssetCheckKey, found: Sequence[verify.Verdict]) -> dg.AssetCheckResult:
    if not found:
        return dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=True,
            description=_NOTHING.description,
        )
    (verdict,) = found
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=verdict.ok,
        severity=dg.AssetCheckSeverity.ERROR,
        description=reports.line(verdict),
        metadata={
            "rows signed": verdict.size,
            "rows read": verdict.read,
            "rows removed by policy": verdict.removed,
            "kept checkpoints that agree": len(verdict.compared_with),
        },
    )
