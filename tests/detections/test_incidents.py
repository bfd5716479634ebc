"""Our rules find the sandbox's incidents, and leave their twins and everyday life alone."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from sandbox.server import Options, Sandbox
from tests.detections.played import SEVERE, own_rules, watched
from tests.tiers import FULL

ANCHOR = datetime(2026, 11, 18, 15, tzinfo=UTC)
DAYS, PER_DAY = (90, 400) if FULL else (12, 150)
KINDS = {
    "support_upload",
    "unrotated_tokens",
    "consent_phishing",
    "adversary_in_the_middle",
    "stuffing",
}
"""Those of public reports; each has a benign twin."""


@pytest.fixture(scope="module")
def box():
    options = Options(days=DAYS, per_day=PER_DAY, rate=0, anchor=ANCHOR, incidents=True)
    return Sandbox(options, lambda: ANCHOR)


@pytest.fixture(scope="module")
def keys(box):
    """Incident -> the events of the incident, and those of its twin."""
    return {
        key.name: tuple(
            frozenset(f"{event.stream}/{event.sha256}" for event in events)
            for events in (key.events, key.twin)
        )
        for key in box.incidents()
    }


@pytest.fixture(scope="module")
def life(box):
    return watched(box, own_rules(), ANCHOR)


def test_every_incident_is_found_within_its_answer_key(life, keys):
    assert keys.keys() >= KINDS
    for name, (events, _) in keys.items():
        found = {each.rule for each in life.severe if each.mostly_in(events)}
        assert found, name


def test_the_twins_stay_quiet(life, keys):
    loud = [each for each in life.findings if each.level in ("medium", *SEVERE)]
    for name in KINDS:
        _, twin = keys[name]
        assert twin, name
        assert [each.rule for each in loud if each.events & twin] == [], name


def test_everyday_life_has_few_severe_findings(life, keys):
    others = [each for each in life.severe if not each.events & incidental(keys)]
    assert len(others) <= (5 if FULL else 2), others


def test_no_rule_floods(life, keys):
    everyday = [each for each in life.findings if not each.events & incidental(keys)]
    (rule, most), *_ = Counter(each.rule for each in everyday).most_common(1)
    assert most <= life.records / 100, rule


def incidental(keys):
    return frozenset().union(*(events for events, _ in keys.values()))
