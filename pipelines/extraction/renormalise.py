"""Derive events again from raw after a mapping has changed.

Stale events are found by their mapping_version, so no progress has to be stored: a run that was
killed is simply started again. A part (a day of a stream, or as much of it as fits in memory) is
replaced in one commit behind the fence that polls use, so a reader sees all its old rows or all
its new ones. An engine may map several parts at once; the result is committed only if the
records are still those it has read, and mapped again otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import repeat
from random import Random

import polars as pl

from pipelines import registry
from pipelines.clock import Clock, utc_now
from pipelines.engines import Engine
from pipelines.errors import LakeError
from pipelines.integrity import mappings, operator_acts, removals, signer
from pipelines.lake import events, tables, workers
from pipelines.lake import raw as raw_table
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS
from pipelines.sdk.contract import Integration, Source, Stream

_PART = 100_000
_SAMPLED_DAYS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPart:
    """Raw rows of one stream and day whose events are derived together."""

    day: date
    seqs: range
    """The range of `seq` that contains the rows; rows of other days in it do not count."""
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The result of a part that has been committed."""

    part: DayPart
    events: int
    left: int
    """Raw rows that remain to be derived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Stored events compared with freshly derived ones."""

    events: int
    """Events that were compared."""
    stale: int
    """Events of another mapping_version, which are not compared: renormalise them."""
    missing: int
    """Events that raw yields and `events` lacks."""
    surplus: int
    """Events that `events` contains and raw does not yield."""
    differing: Counter[str]
    """Column -> number of events in which it differs."""

    @property
    def sound(self) -> bool:
        return not (self.missing or self.surplus or self.differing)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A stream's raw rows, and the events derived from them."""

    lake: Lake
    source: Source
    stream: Stream

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.source.name, self.stream.name)

    @property
    def version(self) -> int:
        return self.source.integration.mapping_version

    def raw(
        self, days: Sequence[date], done: int, doomed: removals.Spans | None = None
    ) -> pl.LazyFrame:
        """Return the raw rows of `days`, of the first `done`, from which events are derived.

        Of the `doomed` rows, which retention is removing, the events may be deleted already.
        """
        record = normalise.version_of(self.stream)
        rows = raw_table.rows_of_days(self.lake, self.key, days, done, record)
        gone = self.doomed() if doomed is None else doomed
        return rows.filter(~removals.within(pl.col("seq"), gone)) if gone else rows

    def doomed(self) -> removals.Spans:
        return operator_acts.doomed(self.lake, self.key)

    def derive(self, raw: pl.LazyFrame) -> pl.DataFrame:
        rows = raw.sort("seq").collect()
        source = self.source
        return normalise.normalise(source.name, source.integration, self.stream, rows).events


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    """A part for a worker to map, described without anything secret."""

    lake: str
    kind: str
    integration: str
    stream: str
    part: DayPart
    done: int
    """Raw rows that had been derived when the errand was given."""
    doomed: removals.Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapped:
    """The events of a part as a worker has mapped them, and the state they follow from."""

    errand: _Errand
    events: bytes
    files: Sequence[str]
    """The day's data files that were read."""
    more: bool
    """Whether these files hold rows that had not been derived then."""


def histories(lake: Lake, source: Source) -> list[History]:
    """Return all streams the settings allow, including those that are no longer polled."""
    streams = source.integration.streams(source.settings)
    return [History(lake=lake, source=source, stream=stream) for stream in streams]


def renormalise(
    history: History,
    *,
    everything: bool = False,
    clock: Clock = utc_now,
    engine: Engine | None = None,
) -> Iterator[Done]:
    """Replace stale events, or `everything`, and yield each part when done, newest day first.

    When no stale event is left, that is recorded and signed: any that appears later is forged.
    Without an engine, the parts are mapped in this process, one after the other.
    """
    lake, key, version = history.lake, history.key, history.version
    if not events.derived(lake, key):
        return
    mappings.declare(lake, key, version, clock(), rows=0)
    stale = parts(history, everything=everything)
    left = rows = sum(part.rows for part in stale)
    mapped = engine.map(_map, _errands(history, stale), rows) if engine else repeat(None)
    for part, ready in zip(stale, mapped, strict=False):
        left -= part.rows
        yield Done(part=part, events=_replace(history, part, ready), left=left)
    # Looked up again: a poll of an older auditlake may have added some meanwhile.
    if not parts(history):
        mappings.finish(lake, key, version, clock())


def parts(history: History, *, everything: bool = False) -> list[DayPart]:
    """Return the parts with stale events, or all parts, newest day first."""
    stale = pl.lit(everything) | pl.col("mapping_version").ne_missing(history.version)
    stored, _ = events.snapshot(history.lake, history.key)
    found = (
        stored.filter(stale)
        .select("date", "seq")
        .unique()
        .sort("date", "seq")
        .with_columns(part=pl.int_range(pl.len()).over("date") // _PART)
        .group_by("date", "part")
        .agg(first=pl.col("seq").min(), last=pl.col("seq").max(), rows=pl.len())
        .sort("date", "part", descending=True)
        .collect()
    )
    return [
        DayPart(day=day, seqs=range(first, last + 1), rows=rows)
        for day, _, first, last, rows in found.iter_rows()
    ]


def _errands(history: History, stale: Sequence[DayPart]) -> list[_Errand]:
    done, doomed = events.derived(history.lake, history.key), history.doomed()
    return [
        _Errand(
            lake=workers.address(history.lake),
            kind=history.source.kind,
            integration=history.source.name,
            stream=history.stream.name,
            part=part,
            done=done,
            doomed=doomed,
        )
        for part in stale
    ]


def _map(errand: _Errand) -> _Mapped | None:
    """Return the events of a part, or None if it cannot be read, for example after retention."""
    integration, stream = _known(errand.kind, errand.stream)
    source = Source(name=errand.integration, integration=integration, settings=None)
    history = History(lake=workers.lake(errand.lake), source=source, stream=stream)
    part = errand.part
    try:
        with tables.one_look():
            rows = history.raw([part.day], errand.done, errand.doomed)
            found = history.derive(rows.filter(_within(part)))
            files = raw_table.files_of_day(history.lake, history.key, part.day)
            more = raw_table.reaches(history.lake, history.key, part.day, errand.done)
    except tables.STORE_ERRORS:
        return None
    return _Mapped(errand=errand, events=workers.packed(found), files=files, more=more)


@cache
def _known(kind: str, name: str) -> tuple[Integration, Stream]:
    integration = registry.kind(kind)
    return integration, next(s for s in integration.streams(None) if s.name == name)


def _holds(history: History, mapped: _Mapped, done: int) -> bool:
    """Return whether the events still follow from the first `done` rows of raw."""
    errand = mapped.errand
    files = raw_table.files_of_day(history.lake, history.key, errand.part.day)
    same = done == errand.done or not mapped.more
    return same and files == mapped.files and history.doomed() == errand.doomed


def _within(part: DayPart) -> pl.Expr:
    return pl.col("seq").is_between(part.seqs.start, part.seqs.stop, "left")


def _replace(history: History, part: DayPart, mapped: _Mapped | None) -> int:
    def derive(done: int) -> pl.DataFrame:
        if mapped is not None and _holds(history, mapped, done):
            fresh = workers.unpacked(mapped.events)
        else:
            fresh = history.derive(history.raw([part.day], done).filter(_within(part)))
        # Retention deletes the records of a day shortly before their events.
        if fresh.is_empty() and not _removed(history, part):
            raise LakeError(
                f"{history.key.table} has lost its rows of {part.day}: their events were kept; "
                "run `auditlake verify`"
            )
        return fresh

    return events.replace(history.lake, history.key, part.day, part.seqs, derive).frame.height


def _removed(history: History, part: DayPart) -> bool:
    """Return whether recorded acts have removed all rows of the part."""
    stored, _ = events.snapshot(history.lake, history.key)
    gone = signer.removed(history.lake, history.key.app)
    covered = pl.any_horizontal(
        pl.lit(value=False),
        *(pl.col("seq").is_between(first, until, "left") for first, until in gone),
    )
    ours = stored.filter(pl.col("date") == part.day, _within(part))
    return ours.filter(covered.not_()).select("seq").collect().is_empty()


def check(history: History, *, rows: int, seed: int) -> Comparison:
    """Compare stored events with fresh ones, for raw rows sampled by `seed` from some days."""
    try:
        return _check(history, rows, seed)
    except FileNotFoundError:  # retention also deletes files that are being read
        return _check(history, rows, seed)


def _check(history: History, rows: int, seed: int) -> Comparison:
    stored, done = events.snapshot(history.lake, history.key)
    days = raw_table.days(history.lake, history.key)
    days = Random(seed).sample(days, min(_SAMPLED_DAYS, len(days)))  # noqa: S311 no secret
    raw = history.raw(days, done)
    seqs = raw.select("seq").collect()["seq"]
    picked = pl.col("seq").is_in(seqs.sample(min(rows, seqs.len()), seed=seed).implode())
    sampled = stored.filter(pl.col("date").is_in(days), picked).collect()
    return compare(sampled, history.derive(raw.filter(picked)), history.version)


def compare(stored: pl.DataFrame, fresh: pl.DataFrame, version: int) -> Comparison:
    """Compare events of the same raw rows; `fresh` is derived with mapping `version`."""
    stale = stored.filter(pl.col("mapping_version").ne_missing(version))
    # A record with one stale event is skipped whole, as its other events are replaced too.
    current = stored.join(stale, on="seq", how="anti")
    expected = fresh.join(stale, on="seq", how="anti")
    both = current.join(expected, on="event_uid", suffix=" fresh")
    differing = {
        name: both.filter(pl.col(name).ne_missing(pl.col(f"{name} fresh"))).height
        for name in EVENTS
        if name != "event_uid"
    }
    return Comparison(
        events=both.height,
        stale=stale.height,
        missing=expected.height - both.height,
        surplus=current.height - both.height,
        differing=Counter({name: count for name, count in differing.items() if count}),
    )
