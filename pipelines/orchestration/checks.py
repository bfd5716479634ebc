"""Asset checks: quick ones after each round, over all rows every night."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

import dagster as dg
import polars as pl

from pipelines.clock import utc_now
from pipelines.extraction import renormalise
from pipelines.integrity import anchors, reports, signer, witnesses
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import TableReport, WorkerPool
from pipelines.lake import raw, versions
from pipelines.lake.tables import Lake, StreamKey
from pipelines.lake.versions import TableVersion
from pipelines.orchestration import verdicts
from pipelines.orchestration.naming import (
    EVENTS,
    WHOLE,
    Figures,
    greatest,
    key_of,
    op,
    short,
    stamp,
)
from pipelines.sdk import record_versions
from pipelines.sdk.contract import Source, Stream
from pipelines.settings import IntegritySettings

SAMPLE_CHECK = "follows_from_raw"
SIGNED_CHECK = "as_signed"
_VERSION_DAYS, _NAMED = 7, 3
_SAMPLED = 200  # records per stream that are derived again and compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A raw table to check, with the statistics of its files."""

    lake: Lake
    log: StreamKey
    stream: Stream
    newest: TableVersion
    files: pl.DataFrame
    rows: int
    """The row count recorded by the last commit."""
    now: datetime
    whole: bool = False
    """Whether to read all rows rather than only statistics and the newest days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    passed: bool
    description: str
    figures: Figures
    severity: dg.AssetCheckSeverity | None = None
    """If it differs from that of the check."""


def opened(lake: Lake, log: StreamKey, stream: Stream, now: datetime, whole: bool) -> Table | None:
    newest = versions.newest(lake, log.table)
    if newest is None:
        return None
    return Table(
        lake=lake,
        log=log,
        stream=stream,
        newest=newest,
        files=newest.files(),
        rows=newest.fence(log.app),
        now=now,
        whole=whole,
    )


def judged(judge: Callable[[Table], Outcome], table: Table) -> Outcome:
    """Return the outcome of a check, of the newest version if files of this one are gone."""
    try:
        return judge(table)
    except FileNotFoundError:  # retention also deletes files that are being read
        newest = opened(table.lake, table.log, table.stream, table.now, table.whole)
        return judge(newest) if newest else _NOTHING


def fresh(table: Table) -> Outcome:
    """Check that the silence is at most twice the longest gap between recent records.

    An hour plus the stream's lag is always allowed.
    """
    arrived = greatest(table.files, "max.ingested_at")
    if arrived is None:
        return Outcome(passed=True, description="no records yet", figures={})
    times = (
        table.newest.scan()
        .filter(pl.col("seq") >= table.rows - 20_000)
        .select(pl.col("time").sort().diff().max())
        .collect()
        .item()
    )
    allowed = max(timedelta(hours=1), 2 * (times or timedelta(0))) + table.stream.lag
    silence = table.now - arrived
    return Outcome(
        passed=silence <= allowed,
        description=f"last arrival {short(silence)} ago; expected within {short(allowed)}",
        figures={
            "last arrival": stamp(arrived),
            "silent for seconds": round(silence.total_seconds(), 1),
            "expected within seconds": round(allowed.total_seconds(), 1),
        },
    )


def _unique(table: Table) -> Outcome:
    """Check that no event_id occurs twice.

    The same id always has the same time, so duplicates can only be in the same day.
    """
    dates = table.files["partition.date"].unique().sort(descending=True)
    checked = dates if table.whole else dates.head(2)
    counted = (
        table.newest.scan()
        .filter(pl.col("date").is_in(checked.to_list()))
        .group_by("date")
        .agg(rows=pl.len(), ids=pl.col("event_id").n_unique())
        .sum()
        .collect()
    )
    rows, ids = counted["rows"].item(), counted["ids"].item()
    return Outcome(
        passed=rows == ids,
        description=f"{rows - ids:,} of {rows:,} rows in {checked.len()} days are duplicates",
        figures={"rows checked": rows, "duplicates": rows - ids, "days": checked.len()},
    )


def _same_content(table: Table) -> Outcome:
    """Check that no id arrived with contents that contradict each other.

    What only the vendor can have changed is a warning.
    """
    dates = table.files["partition.date"].unique().sort(descending=True)
    checked = dates if table.whole else dates.head(_VERSION_DAYS)
    rows = table.newest.scan().filter(pl.col("date").is_in(checked.to_list()))
    found = list(record_versions.differences(raw.versions(rows), table.stream.versions))
    pushed = [each for each in found if each.pushed]
    named = "; ".join(each.words for each in (pushed or found)[:_NAMED])
    return Outcome(
        passed=not found,
        description=f"{len(found):,} ids with other content: {named}" if found else "none",
        figures={"ids with other content": len(found), "of them pushed": len(pushed)},
        severity=None if pushed else dg.AssetCheckSeverity.WARN,
    )


def _dense(table: Table) -> Outcome:
    """Check that seq runs from 0 to rows - 1, except for rows that recorded acts removed.

    Compares count, minimum and maximum; with `whole`, also counts the distinct values.
    """
    stored = int(table.files["num_records"].sum())
    ends = (table.files["min.seq"].min(), table.files["max.seq"].max()) if stored else (None, None)
    distinct = stored
    if table.whole:
        seq = table.newest.scan().select(pl.col("seq").n_unique())
        distinct = seq.collect().item()
    dense = any((distinct, *ends) == left for left in _left(table))
    return Outcome(
        passed=stored == distinct and dense,
        description=f"{stored:,} rows, {distinct:,} values of seq from {ends[0]!s} to {ends[1]!s}; "
        f"{table.rows:,} committed",
        figures={"rows": stored, "rows committed": table.rows},
    )


def _left(table: Table) -> Iterator[tuple[int, int | None, int | None]]:
    """Yield (count, minimum, maximum) of seq as it may be: without removals, then with them."""
    yield _without(table.rows, [])
    removed = signer.removed_by_act(table.lake, table.log.app)
    # The newest acts may be recorded while their rows are still in this version.
    for acts in range(len(removed), 0, -1):
        yield _without(table.rows, sorted(chain.from_iterable(removed[:acts])))


def _without(rows: int, gone: Sequence[tuple[int, int]]) -> tuple[int, int | None, int | None]:
    """Return (count, minimum, maximum) of the seqs below `rows` that are in none of the spans."""
    left, at = list[tuple[int, int]](), 0
    for first, until in [*gone, (rows, rows)]:
        if first > at:
            left.append((at, first))
        at = max(at, until)
    count = sum(until - first for first, until in left)
    return (count, left[0][0], left[-1][1] - 1) if left else (0, None, None)


def _none_rejected(table: Table) -> Outcome:
    waiting = raw.still_rejected(table.lake, table.log)
    reasons = waiting.group_by("reason").len().sort("len", descending=True)
    count = int(reasons["len"].sum())
    summary = ", ".join(f"{number:,} x {reason}" for reason, number in reasons.head(3).iter_rows())
    return Outcome(passed=count == 0, description=summary or "none", figures={"rejected": count})


_CHECKS: dict[str, tuple[Callable[[Table], Outcome], dg.AssetCheckSeverity, str]] = {
    "freshness": (
        fresh,
        dg.AssetCheckSeverity.WARN,
        "The stream has been silent for at most twice its longest recent gap.",
    ),
    "unique_event_id": (
        _unique,
        dg.AssetCheckSeverity.ERROR,
        "No event_id occurs twice: in the newest two days; the job full_table_checks covers all.",
    ),
    "same_content": (
        _same_content,
        dg.AssetCheckSeverity.ERROR,
        "No id arrived again with other content: a forged push, or a record that the vendor "
        "changed; in the newest seven days, the job full_table_checks covers all.",
    ),
    "dense_seq": (
        _dense,
        dg.AssetCheckSeverity.ERROR,
        "seq has no gap, by statistics; the job full_table_checks reads every value.",
    ),
    "nothing_rejected": (
        _none_rejected,
        dg.AssetCheckSeverity.WARN,
        "Every record received could be read; those that could not are in the table `rejected`.",
    ),
}


def keys_of(asset: dg.AssetKey) -> list[dg.AssetCheckKey]:
    """Return the checks that the asset has, or may have in a signed lake."""
    slow = SAMPLE_CHECK if asset == EVENTS else SIGNED_CHECK
    return [*quick_checks(asset), dg.AssetCheckKey(asset, slow)]


def quick_checks(asset: dg.AssetKey) -> list[dg.AssetCheckKey]:
    """Return the checks that a round runs after it has updated the asset."""
    return [] if asset == EVENTS else [dg.AssetCheckKey(asset, name) for name in _CHECKS]


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
        whole = WHOLE in context.run.tags
        table = opened(lake, log, stream, utc_now(), whole)
        for chosen in sorted(context.selected_asset_check_keys):
            judge, severity, _ = _CHECKS[chosen.name]
            verdict = judged(judge, table) if table else _NOTHING
            result = dg.AssetCheckResult(
                asset_key=chosen.asset_key,
                check_name=chosen.name,
                passed=verdict.passed,
                severity=verdict.severity or severity,
                description=verdict.description,
                metadata=verdict.figures,
            )
            yield verdicts.settled(context.instance, chosen, result, whole=whole)

    return checked


_NOTHING = Outcome(passed=True, description="no table yet", figures={})


def follows_from_raw(lake: Lake, sources: Sequence[Source]) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=EVENTS,
        name=SAMPLE_CHECK,
        description="Sampled events equal those derived again from raw; rollups equal the events.",
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
        forged = [reports.line(found) for found in _derived(lake) if found.findings]
        return dg.AssetCheckResult(
            passed=not (stale or wrong or forged),
            severity=dg.AssetCheckSeverity.ERROR if wrong or forged else dg.AssetCheckSeverity.WARN,
            description="; ".join(forged) or _advice(wrong, stale),
            metadata={"events compared": sum(v.events for v in verdicts.values())},
        )

    return follows_from_raw


def _derived(lake: Lake) -> list[TableReport]:
    """Verify and store the reports on the tables that are computed again; none if unsigned."""
    if lake.integrity is None:
        return []
    where = reports.place(lake, lake.integrity)
    found = list(reports.verdicts(where, reports.derived(where), {}, WorkerPool(1), full=True))
    reports.keep(lake, found)
    return found


def _advice(wrong: Sequence[str], stale: Sequence[str]) -> str:
    if wrong:
        return f"differ from raw: {', '.join(wrong)}; run renormalise_events with everything: true"
    return f"older mapping: {', '.join(stale)}; run renormalise_events" if stale else "sound"


def verification(
    lake: Lake, chosen: IntegritySettings, sources: Sequence[Source]
) -> dg.AssetChecksDefinition:
    """Return a check of the rows since its last run; in the job full_table_checks, of all rows."""
    kinds = {source.name: source.kind for source in sources}
    specs = [
        dg.AssetCheckSpec(
            SIGNED_CHECK,
            asset=key_of(StreamKey(source.name, stream.name)),
            description="No row was changed, removed or inserted since it was signed.",
        )
        for source in sources
        for stream in source.streams()
    ]

    @dg.multi_asset_check(name="compare_with_signed", specs=specs, can_subset=True)
    def verification(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        where = reports.place(lake, chosen)
        for fault in anchors.deliver(where.memory, chosen):
            context.log.warning(f"anchor {fault}")
        for fault in witnesses.submit(lake, chosen, witnesses.logs(lake)):
            context.log.warning(f"witness {fault}")
        full, begun = WHOLE in context.run.tags, verify.tables(where)
        for check in sorted(context.selected_asset_check_keys):
            table = "/".join(check.asset_key.path)
            known = [table] if table in begun else []
            found = list(reports.verdicts(where, known, kinds, WorkerPool(1), full=full))
            reports.keep(lake, found)
            result = _as_signed(check, found)
            yield verdicts.settled(context.instance, check, result, whole=full)

    return verification


def _as_signed(check: dg.AssetCheckKey, found: Sequence[TableReport]) -> dg.AssetCheckResult:
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
        severity=dg.AssetCheckSeverity.ERROR if verdict.findings else dg.AssetCheckSeverity.WARN,
        description=reports.line(verdict),
        metadata={
            "rows signed": verdict.size,
            "rows read": verdict.read,
            "rows removed by policy": verdict.removed - verdict.erased,
            "rows erased on request": verdict.erased,
            "kept checkpoints that agree": len(verdict.compared_with),
        },
    )
