"""Every row of `identities` follows from events, and every forged, lost or changed one is found."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.integrity import reports
from pipelines.integrity.verifier import identities
from pipelines.integrity.verifier.job import LakeView, WorkerPool
from pipelines.lake import deletions, identity_table, rollup_table
from pipelines.lake.tables import Lake
from pipelines.schemas import IDENTITIES
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
MALLORY = "mallory@acme.example"


@pytest.fixture
def place(lake: Lake, tmp_path: Path) -> LakeView:
    """A lake whose persons have been derived; nothing in it is signed."""
    land(lake, *range(20))
    identity_table.derive(lake)
    return LakeView(root=lake.root, memory=tmp_path / "memory", keys=[])


def land(lake: Lake, *numbers: int) -> None:
    times = {number: NOON - timedelta(hours=number) for number in numbers}
    rows = [small_lakes.event(n, time, random.Random(n)) for n, time in times.items()]
    small_lakes.append(Path(lake.root), [row | {"kind": "okta"} for row in rows])


def forge(lake: Lake, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Replace the rows as an attacker would, who keeps the position."""
    rows = pl.read_delta(lake.uri("identities"))
    write_deltalake(lake.uri("identities"), change(rows), mode="overwrite")


def finding(place: LakeView) -> str:
    verdict = identities.verify(place)
    assert verdict.first_bad
    return reports.line(verdict)


def test_a_derived_table_is_verified_with_all_others(place: LakeView) -> None:
    assert "identities" in reports.derived(place)
    (verdict,) = reports.verdicts(place, ["identities"], {}, WorkerPool(1))
    assert (verdict.ok, verdict.read) == (True, verdict.read)
    assert reports.line(verdict).startswith("identities: ok, ")
    assert verdict.read


def test_a_lake_without_the_table_is_verified_without_it(place: LakeView, lake: Lake) -> None:
    shutil.rmtree(lake.uri("identities"))
    assert "identities" not in reports.derived(place)


FORGERIES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a link that no event shows": (
        lambda rows: pl.concat([rows, rows[:1].with_columns(person=pl.lit(MALLORY))]),
        "no event shows them together",
    ),
    "another person": (
        lambda rows: rows.with_columns(
            person=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(MALLORY)).otherwise("person")
        ),
        "no event shows them together",
    ),
    "another integration": (
        lambda rows: rows.with_columns(integration=pl.lit("elsewhere")),
        "no event shows them together",
    ),
    "a longer range": (
        lambda rows: rows.with_columns(last_seen=pl.col("last_seen") + timedelta(days=1)),
        "at other times",
    ),
    "no range": (
        lambda rows: rows.with_columns(first_event=pl.lit(None, IDENTITIES["first_event"])),
        "no event shows them together",
    ),
    "a lost link": (lambda rows: rows[1:], "the table does not"),
    "no rows": (lambda rows: rows[:0], "the table does not"),
    "a doubled link": (lambda rows: pl.concat([rows, rows[:1]]), "listed twice"),
}


@pytest.mark.parametrize(("change", "reason"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_row_is_found(
    place: LakeView, lake: Lake, change: Callable[[pl.DataFrame], pl.DataFrame], reason: str
) -> None:
    forge(lake, change)
    assert reason in finding(place)


def test_events_that_land_later_are_no_finding(place: LakeView, lake: Lake) -> None:
    land(lake, *range(100, 110))
    assert identities.verify(place).ok


def test_events_that_were_removed_since_are_no_finding(place: LakeView, lake: Lake) -> None:
    DeltaTable(lake.uri("events")).delete("actor_email IS NOT NULL")
    assert identities.verify(place).ok


def test_a_removal_of_old_versions_leaves_a_table_that_can_be_verified(
    place: LakeView, lake: Lake
) -> None:
    deletions.delete(lake, "events", "seq < 10")
    identity_table.forget(lake)
    assert identities.verify(place).ok


def test_without_the_version_of_its_events_each_row_must_follow_from_the_newest(
    place: LakeView, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_DERIVING", 0.0)
    land(lake, *range(100, 110))
    DeltaTable(lake.uri("events")).optimize.compact()
    deletions.delete(lake, "events", "seq < 0")
    assert identities.verify(place).ok
    forge(lake, FORGERIES["another person"][0])
    assert "no event shows them together" in finding(place)


def test_a_table_that_cannot_be_read_is_a_finding(
    place: LakeView, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_DERIVING", 0.0)
    for file in Path(lake.root, "identities").glob("*.parquet"):
        file.unlink()
    assert "UNREADABLE" in finding(place)


def test_forged_aggregates_make_a_table_that_is_found(place: LakeView, lake: Lake) -> None:

    rollup_table.roll_up(lake, NOON.date() + timedelta(days=1))
    forged = pl.read_delta(lake.uri("rollups")).with_columns(
        actor_email=pl.when(pl.col("part") == "identities").then(pl.lit(MALLORY))
    )
    write_deltalake(lake.uri("rollups"), forged, mode="overwrite", partition_by=["part"])
    land(lake, 200)
    identity_table.derive(lake)
    assert MALLORY in finding(place)


def test_a_table_that_retention_is_just_replacing_is_read_again(
    place: LakeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = identities._expected, []

    def gone_once(events: pl.LazyFrame) -> dict[identities.Account, identities.Span]:
        calls.append(events)
        if len(calls) == 1:
            raise OSError("No such file")
        return real(events)

    monkeypatch.setattr(identities, "_expected", gone_once)
    assert identities.verify(place).ok
    assert len(calls) == 2


SIGNED_IN = ("user", "Authentication", "success", "u1", "ada@acme.example")


@pytest.mark.parametrize(
    ("facts", "asserts"),
    [
        (SIGNED_IN, True),
        (("api_key", *SIGNED_IN[1:]), True),
        (("system", *SIGNED_IN[1:]), False),
        ((None, *SIGNED_IN[1:]), False),
        (("user", "Authentication", "failure", "u1", "ada@acme.example"), False),
        (("user", "Account Change", "failure", "u1", "ada@acme.example"), True),
        ((*SIGNED_IN[:3], "", "ada@acme.example"), False),
        ((*SIGNED_IN[:3], None, "ada@acme.example"), False),
        ((*SIGNED_IN[:3], "0000-00", "ada@acme.example"), False),
        ((*SIGNED_IN[:3], "u1", "ada"), False),
        ((*SIGNED_IN[:3], "u1", None), False),
    ],
)
def test_an_event_shows_an_account_with_an_address_unless_somebody_only_typed_them(
    facts: tuple[str | None, str | None, str | None, str | None, str | None], asserts: bool
) -> None:
    assert identities._asserts(*facts) is asserts


ACCOUNT = ("okta", "actor_id", "u1", "ada@acme.example")
HOURS = [NOON + timedelta(hours=hour) for hour in range(4)]


@pytest.mark.parametrize(
    ("first", "last", "exact", "contained"),
    [
        (1, 2, True, True),
        (0, 2, False, False),
        (1, 3, False, False),
        (1, 1, False, True),
        (2, 2, False, True),
    ],
)
def test_times_of_an_account_lie_within_those_of_its_events(
    first: int, last: int, exact: bool, contained: bool
) -> None:
    """The table may stand for fewer events than there are now, if its version is gone."""
    stored, shown = [(ACCOUNT, (HOURS[first], HOURS[last]))], {ACCOUNT: (HOURS[1], HOURS[2])}
    assert (not list(identities._problems(stored, shown, exact=True))) is exact
    assert (not list(identities._problems(stored, shown, exact=False))) is contained
