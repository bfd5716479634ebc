"""Correlations find what was planted, and nothing in ordinary work."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from dashboard import detections, ready
from dashboard.queries import Query
from pipelines.schemas import EVENTS
from sandbox.company import Company
from tests.dashboard import small_lakes
from tests.dashboard.conftest import ANCHOR

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WEEK = Query(since=NOW - timedelta(days=7), until=NOW, text="")


def frame(*rows: dict[str, Any]) -> pl.LazyFrame:
    landed = [
        small_lakes.event(n, row["time"], random.Random(1))
        | {"date": row["time"].date(), "event_uid": str(n), "outcome": "success"}
        | {"activity_type": "Authentication", "action_type": "Logon", "country": "GB"}
        | row
        for n, row in enumerate(rows)
    ]
    return pl.DataFrame(landed, schema=EVENTS).lazy()


def at(hours: float, actor: str = "ada@acme.example", **more: Any) -> dict[str, Any]:
    own = {"source_ip": f"192.0.2.{sum(map(ord, actor)) % 250}"}
    return {"time": NOW - timedelta(hours=hours), "actor_email": actor, **own, **more}


def test_a_country_is_new_only_to_an_account_that_was_seen_before() -> None:
    events = frame(
        at(24 * 20),
        at(24 * 20, "new@acme.example", country=None),
        at(5, country="BR"),
        at(4, country="RU", outcome="failure"),
        at(3),
        at(3, "new@acme.example", country="RU"),
    )
    found = detections.new_countries(events, WEEK)
    assert found["detail"].to_list() == ["BR, 1 of 1 succeeded", "RU, 0 of 1 succeeded"]
    assert found["actor"].unique().to_list() == ["ada@acme.example"]
    assert found.row(0, named=True)["value"] == "BR"


def test_a_country_from_before_is_not_new_even_if_it_is_only_seen_by_failures() -> None:
    assert detections.new_countries(
        frame(at(24 * 20, country="BR"), at(5, country="BR")), WEEK
    ).is_empty()


def test_downloads_are_many_only_beyond_what_the_account_did_before() -> None:
    def hour(hours: float, n: int, actor: str) -> list[dict[str, Any]]:
        return [at(hours - k / 3600, actor, action_type="Download") for k in range(n)]

    events = frame(
        *hour(24 * 20, 40, "busy@acme.example"),
        *hour(10, 40, "busy@acme.example"),
        *hour(24 * 20, 5, "ada@acme.example"),
        *hour(10, 25, "ada@acme.example"),
        *hour(10, 19, "few@acme.example"),
    )
    (row,) = detections.mass_downloads(events, WEEK).rows(named=True)
    assert (row["actor"], row["n"]) == ("ada@acme.example", 25)
    assert row["detail"] == "25 in one hour, at most 5 before"


def test_an_account_is_dormant_after_thirty_days_without_an_event() -> None:
    events = frame(
        at(24 * 40),
        at(2),
        at(24 * 25, "grace@acme.example"),
        at(2, "grace@acme.example"),
        at(2, "new@acme.example"),
    )
    (row,) = detections.dormant(events, WEEK).rows(named=True)
    assert (row["actor"], row["detail"]) == ("ada@acme.example", "no event for 39 days")


def test_three_failures_within_an_hour_before_a_success_are_found() -> None:
    def tries(actor: str, *minutes: float) -> list[dict[str, Any]]:
        return [at(5 - minute / 60, actor, outcome="failure") for minute in minutes]

    events = frame(
        *tries("ada@acme.example", 0, 10, 20),
        at(5 - 30 / 60, source_ip="203.0.113.66"),
        *tries("late@acme.example", 0, 10, 20),
        at(5 - 81 / 60, "late@acme.example"),
        *tries("two@acme.example", 0, 10),
        at(5 - 30 / 60, "two@acme.example"),
        *tries("never@acme.example", 0, 10, 20),
    )
    (row,) = detections.failed_then_successful(events, WEEK).rows(named=True)
    assert (row["actor"], row["n"]) == ("ada@acme.example", 3)
    assert row["detail"] == "3 failures, then a success from 203.0.113.66"


def test_failures_of_an_address_on_several_accounts_count_for_the_one_that_it_enters() -> None:
    def tried(hours: float, accounts: int, ip: str) -> list[dict[str, Any]]:
        names = [f"u{n % accounts}@acme.example" for n in range(12)]
        return [at(hours, name, outcome="failure", source_ip=ip) for name in names]

    events = frame(
        *tried(5, 6, "203.0.113.66"),
        at(4.5, "taken@acme.example", source_ip="203.0.113.66"),
        at(4.5, "other@acme.example", source_ip="203.0.113.1"),
        *tried(9, 6, "203.0.113.2"),
        at(7.5, "late@acme.example", source_ip="203.0.113.2"),
    )
    (row,) = detections.failed_then_successful(events, WEEK).rows(named=True)
    assert (row["actor"], row["value"]) == ("taken@acme.example", "203.0.113.66")
    assert row["detail"] == "12 failures on 6 accounts, then a success from 203.0.113.66"


@pytest.fixture(scope="module")
def events(live_lake: Path) -> pl.LazyFrame:
    table = pl.from_arrow(DeltaTable(live_lake / "events").to_pyarrow_table())
    assert isinstance(table, pl.DataFrame)
    return table.lazy().filter(pl.col("time") < ANCHOR)


def findings(events: pl.LazyFrame, key: str, since: timedelta) -> list[str]:
    search = ready.SEARCHES[key]
    assert search.find
    query = Query(since=ANCHOR - since, until=ANCHOR, text=search.text)
    return search.find(events, query)["actor"].to_list()


def test_the_planted_attacks_come_first(events: pl.LazyFrame) -> None:
    company = Company(1)
    victim, insider = company.one("Finance").email, company.one("Sales").email
    assert victim
    assert findings(events, "failed-then-successful", timedelta(days=12))[:2] == [
        # JumpCloud names the account without its domain.
        victim.split("@")[0],
        victim,
    ]
    assert set(findings(events, "mass-download", timedelta(days=12))[:2]) == {victim, insider}
    # Whether the account was seen before within the short history depends on the day of the week.
    known = frame({"time": ANCHOR - timedelta(days=12), "actor_email": victim, "country": "GB"})
    events = pl.concat([events, known], how="diagonal_relaxed")
    assert victim in findings(events, "new-countries", timedelta(days=11, hours=8))


@pytest.mark.parametrize(
    "vendor", ["okta", "entra_id", "google_workspace", "jumpcloud", "atlassian", "cloudflare"]
)
def test_the_taken_over_account_is_found_in_each_vendor_alone(
    events: pl.LazyFrame, vendor: str
) -> None:
    alone = events.filter(pl.col("kind") == vendor)
    victim = Company(1).one("Finance")
    assert victim.email
    found = findings(alone, "failed-then-successful", timedelta(days=12))
    assert found[0].startswith(victim.email.split("@")[0])
