"""The tables of detections: one commit of findings and positions, numbered without gaps."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl

from pipelines.lake import findings, tables
from pipelines.lake.findings import Evaluated
from pipelines.schemas import FINDINGS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def found(*names):
    rows = [
        {"finding_uid": name, "revision": 0, "time": NOON, "date": NOON.date()} for name in names
    ]
    return pl.DataFrame(rows, {n: t for n, t in FINDINGS.items() if n != "seq"})


def entry(stream, since, until):
    return {
        "integration": "okta",
        "stream": stream,
        "since_seq": since,
        "until_seq": until,
        "ruleset": "r",
        "rule_id": None,
        "rows": until - since,
        "hits": 0,
        "error": None,
        "seconds": 0.5,
        "evaluated_at": NOON.isoformat(),
    }


def test_findings_positions_and_evaluations_are_one_commit(lake):
    made = Evaluated(found("a", "b"), {"detect/x": 7}, [entry("x", 0, 7)])
    assert findings.commit(lake, lambda _: made)["seq"].to_list() == [0, 1]
    assert findings.positions(lake, ["detect/x", "other"]) == {"detect/x": 7, "other": 0}
    assert findings.commit(lake, lambda _: None).is_empty()
    findings.commit(lake, lambda _: Evaluated(found(), {"detect/x": 9}, [entry("x", 7, 9)]))
    for _ in range(2):
        findings.flush(lake)
    evaluations = tables.scan(lake, "evaluations").collect()
    assert evaluations["until_seq"].to_list() == [7, 9]
    assert evaluations["evaluated_at"].to_list() == [NOON, NOON]


def test_commits_of_many_at_once_are_numbered_without_gaps(lake):
    def one(number):
        def decide(stored):
            known = stored.on([NOON.date()]).collect()["finding_uid"]
            assert f"{number}" not in known
            return Evaluated(found(f"{number}", f"{number}'"), {f"detect/{number}": 1}, [])

        return findings.commit(lake, decide)

    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(one, range(8))]
    assert sorted(pl.concat(made)["seq"]) == list(range(16))
    assert (
        tables.scan(lake, "findings").select(pl.col("finding_uid").n_unique()).collect().item()
        == 16
    )


def test_sets_of_rules_are_recorded_once(lake):
    for _ in range(2):
        findings.register(lake, {"a": "{}", "b": "[]"}, NOON)
    assert sorted(findings.rulesets(lake)) == ["[]", "{}"]


def test_nothing_was_found_in_a_lake_without_detections(lake):
    findings.flush(lake)
    assert findings.positions(lake, ["detect/x"]) == {"detect/x": 0}
    assert findings.failures(lake, NOON).is_empty()
    assert findings.provisional(lake).is_empty()
    assert findings.rulesets(lake) == []
    assert findings.hits(lake, [NOON.date()], pl.DataFrame()).is_empty()
