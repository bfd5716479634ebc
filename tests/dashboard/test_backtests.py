"""Backtests run in the background, one at a time, and only while somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import backtests
from dashboard.backtests import Backtest
from dashboard.sight import EVERYTHING, Door, Sight
from pipelines.detections import rules, ruleset
from pipelines.detections.backtest import Part
from pipelines.detections.overlay import Rulebook
from pipelines.detections.rules import Rule
from pipelines.errors import LakeError
from pipelines.lake import identity_table
from pipelines.lake.tables import Lake
from pipelines.schemas import FINDINGS
from tests.detections.ruled import written
from tests.detections.watched import LATER, START, correlation, land, okta, rule

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)


@pytest.fixture
def book(tmp_path: Path) -> Rulebook:
    """A rule, and a correlation of another."""
    made = [rule(1, {"eventType": "a"}), rule(2, {"eventType": "b"}), correlation(3, [2], gte=2)]
    loaded = rules.load([written(tmp_path / "rules", *made)])
    return Rulebook(loaded=loaded, ruleset=ruleset.compiled(loaded))


def hits(*hours: int) -> pl.DataFrame:
    times = [NOW - hour * timedelta(hours=1) for hour in hours]
    return pl.DataFrame(
        {"time": times, "finding_uid": [f"{hour}" for hour in hours]},
        schema_overrides={"time": FINDINGS["time"]},
    )


def begun(book: Rulebook, parts: backtests.Parts, days: int = 7) -> Backtest:
    one: Rule = book.loaded.rules[0]
    return backtests.start(one, EVERYTHING, days, NOW, parts)


def test_progress_and_result_are_those_of_the_parts(book: Rulebook) -> None:
    half, go_on = threading.Event(), threading.Event()

    def parts(since: datetime, until: datetime) -> Iterator[Part]:
        assert (until, until - since) == (NOW, timedelta(days=7))
        yield Part(findings=hits(5), rows=10, days=2, days_left=1, failed={"x": "slow"})
        yield Part(findings=hits(7), rows=5, days=2)
        half.set()
        assert go_on.wait(60)
        yield Part(findings=hits())

    made = begun(book, parts)
    assert half.wait(60)
    assert made.running
    go_on.set()
    made.wait()
    assert made.found is not None
    assert made.found["finding_uid"].to_list() == ["7", "5"]
    assert (made.rows, made.hits, made.share, made.days) == (15, 2, 1.0, 7)
    assert (made.running, made.failed) == (False, {"x": "slow"})


def test_it_ends_when_it_is_stopped_unseen_or_finds_too_much(
    book: Rulebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = list[bool]()

    def endless(*_: datetime) -> Iterator[Part]:
        try:
            while True:
                yield Part(findings=hits(1, 2), days=1)
        finally:
            closed.append(True)

    monkeypatch.setattr(backtests, "MOST", 10**9)
    stopped = begun(book, endless)
    stopped.stop()
    stopped.wait()
    monkeypatch.setattr(backtests, "_UNSEEN", -1.0)
    unseen = begun(book, endless)
    unseen.wait()
    assert all(one.stopped and one.found is None for one in (stopped, unseen))
    monkeypatch.setattr(backtests, "_UNSEEN", 60.0)
    monkeypatch.setattr(backtests, "MOST", 3)
    many = begun(book, endless)
    many.look()
    many.wait()
    assert many.ended_early
    assert many.found is not None
    assert many.found.height == 4
    assert len(closed) == 3 or stopped.rows == 0


def test_two_take_turns_and_one_that_waits_can_be_stopped(book: Rulebook) -> None:
    go_on = threading.Event()

    def parts(*_: datetime) -> Iterator[Part]:
        assert go_on.wait(60)
        yield Part(findings=hits())

    first = begun(book, parts)
    second, third = begun(book, parts), begun(book, parts)
    third.stop()
    third.wait()
    assert first.running
    assert second.running
    go_on.set()
    for one in (first, second):
        one.wait()
        assert one.found is not None


def test_failures_are_text(book: Rulebook) -> None:
    def refused(*_: datetime) -> Iterator[Part]:
        raise LakeError("events: not readable")

    def broken(*_: datetime) -> Iterator[Part]:
        raise ValueError("secret")

    for parts, text in ((refused, "events: not readable"), (broken, "(ValueError)")):
        made = begun(book, parts)
        made.wait()
        assert text in made.error
        assert "secret" not in made.error
        assert not made.running


def test_days_without_findings_are_counted_too() -> None:
    days = backtests.per_day(hits(1, 2, 50), NOW - timedelta(days=3), NOW)
    assert days["n"].to_list() == [0, 1, 0, 2]
    drawn = backtests.chart(days).to_dict()
    assert drawn["mark"]["type"] == "bar"


def test_a_visitor_backtests_the_events_of_their_integrations_alone(
    lake: Lake, book: Rulebook
) -> None:
    land(lake, "okta", okta(0, "a"), okta(1, "b"), okta(2, "b"))
    land(lake, "okta", okta(3, "a", who="eve@example.com"), okta(4, "b"), name="vault")
    identity_table.derive(lake)

    def found(sight: Sight, number: int) -> list[tuple[str, int]]:
        id_ = rule(number, {})["id"]
        parts = [*Door(lake, sight).backtest(book, id_, START - timedelta(days=1), LATER)]
        rows = pl.concat(part.findings for part in parts)
        return sorted(rows.select("integration", "count").iter_rows())

    limited = Sight(integrations=frozenset({"okta"}))
    assert found(EVERYTHING, 1) == [("okta", 1), ("vault", 1)]
    assert found(limited, 1) == [("okta", 1)]
    assert [n for _, n in found(EVERYTHING, 3)] == [3]
    assert found(limited, 3) == [("okta", 2)]
    assert found(Sight(integrations=frozenset()), 1) == []
