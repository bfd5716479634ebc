"""Verifies the table `identities`: derives it again from the events that it stands for.

It is not signed, but follows from `events`, which verifying the raw tables compares with records.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from pipelines.integrity.verifier.job import IDENTITIES, LakeView, TableReport
from pipelines.integrity.verifier.rows import UNREADABLE, event_rows, reason_of

Account = tuple[str, str, str, str]
"""Integration, sort of identifier, identifier, person."""
Span = tuple[datetime, datetime]

_ASSERTED = Path(__file__).parents[2] / "lake" / "identity.csv"
_DERIVING = 20.0  # seconds to wait for a retention run that is just deriving the table
_READ = ("integration", "kind", "actor_type", "activity_type", "outcome", "actor_id", "actor_email")


def exists(place: LakeView) -> bool:
    return DeltaTable.is_deltatable(place.uri(IDENTITIES), _options(place))


def verify(place: LakeView) -> TableReport:
    """Compare the table with the version of `events` that it stands for, and return the report.

    If that version is gone, every row must follow from the newest events.
    """
    started = time.monotonic()
    while True:
        verdict, final = _verify(place)
        verdict.seconds = time.monotonic() - started
        if verdict.ok or final or verdict.seconds >= _DERIVING:
            return verdict
        time.sleep(0.1)


def _verify(place: LakeView) -> tuple[TableReport, bool]:
    """Return a report, and whether it is final: a later attempt may read what is gone now."""
    verdict = TableReport(table=IDENTITIES, at=datetime.now(UTC))  # noqa: TID251 no shared code
    try:
        table = DeltaTable(place.uri(IDENTITIES), storage_options=_options(place))
        rows = pl.scan_delta(table).collect()
        newest = place.events()
        events = _events(place, newest, table.transaction_version(f"events/{newest.metadata().id}"))
        expected = _expected(events if events is not None else _rows(place, newest))
    except UNREADABLE as error:
        verdict.found("unreadable", None, reason_of(error))
        return verdict, False
    verdict.read = rows.height
    problem = next(_problems(_stored(rows), expected, exact=events is not None), None)
    if problem:
        verdict.found("identities", None, problem)
    return verdict, events is not None


def _events(place: LakeView, newest: DeltaTable, versions: int | None) -> pl.LazyFrame | None:
    """Return the events of the version before `versions`, or None if they are gone."""
    if not versions or versions > newest.version() + 1:
        return None
    try:
        uri, wanted = place.uri("events"), versions - 1
        is_newest = newest.version() == wanted
        options = _options(place)
        handle = newest if is_newest else DeltaTable(uri, wanted, storage_options=options)
        found = _rows(place, handle).select(*_READ, "time")
        found.select(pl.col("actor_id").is_not_null().sum()).collect()  # opens every file
    except UNREADABLE:
        return None
    return found


def _rows(place: LakeView, events: DeltaTable) -> pl.LazyFrame:
    return event_rows(events.file_uris(), place.options, place.kept, use_statistics=False)


def _expected(events: pl.LazyFrame) -> dict[Account, Span]:
    """Return each account that an event shows with an address, with its first and last time."""
    seen: dict[Account, Span] = {}
    combined = events.group_by(_READ).agg(first=pl.col("time").min(), last=pl.col("time").max())
    patterns = _patterns()
    for integration, kind, *facts, first, last in combined.collect(engine="streaming").iter_rows():
        if not _asserts(*facts):
            continue
        value, person = facts[-2:]
        for sort, pattern in patterns.get(kind, ()):
            if pattern.fullmatch(value):
                account = (integration, sort, value, person)
                begin, end = seen.get(account, (first, last))
                seen[account] = min(begin, first), max(end, last)
    return seen


def _asserts(
    actor: str | None, activity: str | None, outcome: str | None, value: str | None, at: str | None
) -> bool:
    typed = activity == "Authentication" and outcome == "failure"
    known = bool(value and value.strip("0-")) and "@" in (at or "")
    return known and actor in ("user", "api_key") and not typed


def _patterns() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return the identifiers of each kind of service that its vendor assigns: sort and pattern."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    with _ASSERTED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["pattern"]:
                sort = row["identifier"], re.compile(row["pattern"], re.ASCII)
                found.setdefault(row["kind"], []).append(sort)
    return found


def _stored(rows: pl.DataFrame) -> list[tuple[Account, Span]]:
    keys, times = ("integration", "identifier", "value", "person"), ("first_event", "last_seen")
    return [
        (tuple(row[key] for key in keys), tuple(row[key] for key in times))
        for row in rows.sort(pl.all()).iter_rows(named=True)
    ]


def _problems(
    stored: list[tuple[Account, Span]], expected: dict[Account, Span], *, exact: bool
) -> Iterator[str]:
    """Yield each difference; without `exact`, events that were added later are none."""
    for account, span in stored:
        name = f"{account[0]}: {account[2]} and {account[3]}"
        shown = expected.get(account)
        if shown is None or None in span:
            yield f"{name}: no event shows them together"
        elif span != shown if exact else span[0] < shown[0] or span[1] > shown[1]:
            yield f"{name}: events show them together at other times"
    if len({account for account, _ in stored}) < len(stored):
        yield "an account is listed twice"
    if exact and (lacking := expected.keys() - {account for account, _ in stored}):
        account = min(lacking)
        name = f"{account[0]}: {account[2]} and {account[3]}"
        yield f"{name}: an event shows them together, the table does not"


def _options(place: LakeView) -> dict[str, str] | None:
    return dict(place.options) if place.options else None
