"""A backtest finds what the engine has found, row for row."""

import functools
import random
from datetime import timedelta

import polars as pl
import pytest

from pipelines.detections import backtest, engine, exceptions, rules, ruleset, windows
from pipelines.detections.interrupted import Parts
from pipelines.lake import tables
from tests.detections import kills
from tests.detections.ruled import read
from tests.detections.watched import (
    LATER,
    START,
    clock,
    correlation,
    detect,
    findings,
    land,
    okta,
    rule,
)

DAY = timedelta(days=1)
OWN = ("found_at", "revision", "seq")


def backtested(lake, made, since=START - DAY, until=LATER):
    ids = [id_ for id_ in made.all() if id_ not in made.silent]
    parts = [*backtest.run(lake, made, ids, since, until, clock=clock)]
    return pl.concat([part.findings for part in parts]).sort("finding_uid"), parts


def test_live_findings_equal_those_of_a_backtest(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ROWS", 8)
    monkeypatch.setattr(backtest, "_ROWS", 6)
    made = ruleset.compiled(rules.load([kills.rules_in(tmp_path)]))
    chance = random.Random(5)
    for part in range(4):
        kills.events(lake, chance, part)
        detect(lake, made)
    live = windows.newest(findings(lake)).filter(status="found").sort("finding_uid")
    found, parts = backtested(lake, made)
    assert live.drop(*OWN).equals(found.drop("found_at", "revision"))
    assert live["rule_id"].n_unique() == 4
    assert sum(part.rows for part in parts) == 48
    assert parts[-1].days_left == 0


def test_only_findings_of_the_span_count_and_nothing_is_written(lake, tmp_path):
    made = read(tmp_path, rule(1, {"eventType": "a"}))
    land(lake, "okta", *(okta(n, "a", minute=n * 60 * 12) for n in range(6)))
    found, parts = backtested(lake, made, START + DAY, START + 2 * DAY)
    assert sorted(found["event_uids"].list.first()) == [
        f"okta:system_log:okta-{n:05}" for n in (2, 3)
    ]
    days = [part.day for part in parts if part.day]
    assert days == [START.replace(hour=0) + DAY]
    assert tables.scan(lake, "findings") is None
    assert tables.scan(lake, "hits") is None


@pytest.fixture
def counted(monkeypatch):
    """The days whose rows were evaluated."""
    seen = []
    evaluate = backtest.evaluate.evaluate

    def counting(rules, names, rows, **options):
        seen.append(rows.raw["time"][0].date().isoformat())
        return evaluate(rules, names, rows, **options)

    monkeypatch.setattr(backtest.evaluate, "evaluate", counting)
    return seen


def ruled(folder, **texts):
    """Return a rule with findings of its own and a correlation of it."""
    folder.mkdir(exist_ok=True)
    both = correlation(2, [1], gte=2)
    both["correlation"]["generate"] = True
    return read(folder, rule(1, {"eventType": "a"}, **texts), both)


def daily(lake, tmp_path, days=4):
    made = ruled(tmp_path)
    for n in range(2 * days):
        land(lake, "okta", okta(n, "a", minute=n // 2 * 24 * 60 + n % 2))
    return made


def interrupt(lake, made, kept, after, **options):
    """Begin a backtest, and stop after some parts."""
    parts = backtest.run(lake, made, made.all(), START - DAY, LATER, kept=kept, **options)
    for _ in range(after):
        next(parts)
    parts.close()


def test_an_interrupted_backtest_goes_on_where_it_stopped(lake, tmp_path, counted):
    made, kept = daily(lake, tmp_path), Parts(tmp_path / "kept")
    whole = [*backtest.run(lake, made, made.all(), START - DAY, LATER)]
    counted.clear()
    interrupt(lake, made, kept, 3)
    assert counted == ["2026-03-01", "2026-03-02", "2026-03-03"]
    counted.clear()
    parts = [*backtest.run(lake, made, made.all(), START - DAY, LATER, kept=kept)]
    assert counted == ["2026-03-03", "2026-03-04"]
    assert [part.kept for part in parts] == [True, True, False, False, False]
    for one, other in zip(whole, parts, strict=True):
        assert one.findings.drop("found_at").equals(other.findings.drop("found_at"))
        assert (one.rows, one.days_left) == (other.rows, other.days_left)
    assert parts[-1].findings.height == 4
    assert [*kept.folder.iterdir()] == []


def test_what_a_part_depends_on_is_evaluated_again(lake, tmp_path, counted):
    made, kept = daily(lake, tmp_path), Parts(tmp_path / "kept")

    def evaluated(rules=made, until=LATER, **options):
        counted.clear()
        parts = backtest.run(lake, rules, rules.all(), START - DAY, until, kept=kept, **options)
        for part in parts:
            if part.log is None:
                break  # before its end
        return counted[:]

    assert len(evaluated()) == 4
    assert evaluated() == []
    # A late event, and another span.
    land(lake, "okta", okta(100, "a", minute=24 * 60 + 5))
    assert evaluated() == ["2026-03-02"]
    assert evaluated(until=START + 2 * DAY + timedelta(hours=3)) == ["2026-03-03"]
    # Texts are not logic, but those of now are shown.
    retitled = ruled(tmp_path / "other", title="Another title")
    found = [*backtest.run(lake, retitled, retitled.all(), START, LATER, kept=kept)]
    assert {*found[1].findings["title"]} == {"Another title"}
    changed = read(tmp_path / "other", rule(1, {"eventType": ["a", "b"]}))
    assert len(evaluated(changed)) == 4


def test_what_was_kept_is_excepted_as_if_it_were_new(lake, tmp_path):
    made, kept = daily(lake, tmp_path), Parts(tmp_path / "kept")
    one = exceptions.RuleException(
        id="e1",
        rule_id=rule(1, {})["id"],
        fields=(("action", ("a",)),),
        owner="ada",
        reason="tests",
        expires=LATER,
    )
    excepted = functools.partial(exceptions.excepted, exceptions=[one])
    interrupt(lake, made, kept, 3)
    options = {"kept": kept, "exceptions": excepted}
    parts = [*backtest.run(lake, made, made.all(), START - DAY, LATER, **options)]
    assert parts[0].kept
    assert {*parts[0].findings["exception"]} == {"e1"}


def test_only_the_streams_that_are_named_are_read(lake, tmp_path, counted):
    made = daily(lake, tmp_path, 1)
    key = land(lake, "okta", okta(50, "a"), name="other")
    found = [*backtest.run(lake, made, made.all(), START - DAY, LATER, keys=[key])]
    assert sum(part.rows for part in found) == 1
    assert {*found[0].findings["integration"]} == {"other"}
    assert found[-1].findings.is_empty()


def test_findings_are_counted_per_day_and_entity(lake, tmp_path):
    made = daily(lake, tmp_path, 2)
    land(lake, "okta", okta(9, "a", who="ben@example.com"))
    found, _ = backtested(lake, made)
    days = backtest.per_day(found)
    assert [(str(day), n) for day, n in days.iter_rows()] == [("2026-03-01", 4), ("2026-03-02", 3)]
    assert backtest.per_entity(found).rows() == [("ada@example.com", 6), ("ben@example.com", 1)]


def test_a_restart_evaluates_everything_again(lake, tmp_path, counted):
    made, kept = daily(lake, tmp_path), Parts(tmp_path / "kept")
    interrupt(lake, made, kept, 3)
    counted.clear()
    interrupt(lake, made, kept, 5, restart=True)
    assert len(counted) == 4
