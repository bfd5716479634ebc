"""Detection in lakes that change: mapped again, maintained, with hostile records."""

import json
from datetime import date

import polars as pl

from pipelines import registry
from pipelines.detections import engine
from pipelines.extraction import renormalise
from pipelines.lake import compaction, maintenance
from pipelines.lake import findings as table
from tests.detections.ruled import read
from tests.detections.watched import (
    KEYS,
    correlation,
    detect,
    findings,
    land,
    okta,
    rule,
)
from tests.detections.watched import table as rows_of

RESET = "user.mfa.factor.reset_all"
FAILED = {"outcome": {"result": "FAILURE"}}
RULES = (
    rule(1, {"eventType": RESET}),
    rule(2, {"outcome": "failure"}, product="auditlake"),
    correlation(3, [2], gte=2),
)
HOSTILE = [
    "\u202e\u0000\x1b[31m<script>alert(1)</script>",
    "=cmd|'/c calc'!A1",
    "a\x00b",
    "\\\"'`${{7*7}}",
    "\U0001f468\u200d\U0001f469" * 400,
    "x" * 200_000,
    "",
    " ",
]


def test_events_that_are_mapped_again_are_not_found_again(lake, tmp_path):
    rules = read(tmp_path, *RULES)
    land(lake, "okta", okta(0, RESET), okta(1, **FAILED), okta(2, **FAILED))
    assert detect(lake, rules).height == 2
    source = registry.source("okta", KEYS["okta"])
    for history in renormalise.histories(lake, source):
        assert [*renormalise.renormalise(history, everything=True)] or history.key
    assert detect(lake, rules).is_empty()
    land(lake, "okta", okta(0, RESET), okta(3, RESET))
    assert detect(lake, rules).height == 1


def test_maintenance_keeps_findings_positions_and_evaluations(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "_FILES_CLOSED", 0)
    rules = read(tmp_path, *RULES)
    for number in range(3):
        land(lake, "okta", okta(number, RESET), okta(10 + number, **FAILED))
        with monkeypatch.context() as patched:
            patched.setattr(table, "flush_at", lambda *_: None)
            detect(lake, rules)
    before = findings(lake)
    assert rows_of(lake, "evaluations").is_empty()
    done = {each.table: each for each in maintenance.maintain(lake, [], date(2100, 1, 1))}
    assert (done["findings"].files_after, done["hits"].files_after) == (1, 1)
    assert findings(lake).equals(before)
    assert engine.behind(lake, rules) == 0
    assert rows_of(lake, "evaluations")["until_seq"].sort().to_list() == [2, 4, 6]
    land(lake, "okta", okta(4, RESET), okta(14, **FAILED))
    detect(lake, rules)
    assert findings(lake)["seq"].to_list() == list(range(before.height + 2))


def test_hostile_texts_are_data(lake, tmp_path):
    rules = read(tmp_path, *RULES[:2], correlation(3, [2], by=("actor_id", "actor_name"), gte=2))
    records = []
    for number, text in enumerate(HOSTILE):
        more = {"who": text, "displayMessage": text, "client": {"ipAddress": text}}
        first = 10 * number
        records.append(okta(first, RESET, minute=0, **more))
        records += [okta(first + n, minute=n, **more, **FAILED) for n in (1, 2)]
    land(lake, "okta", *records, okta(99, RESET))
    detect(lake, rules)
    found = findings(lake)
    assert found.filter(pl.col("rule_id") == RULES[0]["id"]).height == len(HOSTILE) + 1
    assert found.filter(pl.col("rule_id") == RULES[2]["id"]).height >= 4
    values = [each["value"] for matched in found["matched"] for each in matched]
    assert max(map(len, values)) <= 1000
    assert json.loads(found.write_json())
    assert detect(lake, rules).is_empty()
