"""A backtest finds what the engine has found, row for row."""

import random
from datetime import timedelta

import polars as pl

from pipelines.detections import backtest, engine, rules, ruleset, windows
from pipelines.lake import tables
from tests.detections import kills
from tests.detections.ruled import read
from tests.detections.watched import LATER, START, clock, detect, findings, land, okta, rule

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
