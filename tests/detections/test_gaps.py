"""Correlations know of gaps in the streams that they read."""

from datetime import timedelta

import pytest

from pipelines.detections.gaps import Gaps
from pipelines.detections.positions import Log
from tests.detections.ruled import read
from tests.detections.watched import (
    LATER,
    LOGS,
    START,
    correlation,
    covered,
    jumpcloud,
    land,
    okta,
    rule,
)

ALL = [Log(key=key, kind=kind) for kind, key in LOGS.items()]


@pytest.mark.parametrize(
    ("minutes", "gap"), [((0, 30), False), ((20, 70), True), ((90, 120), False)]
)
def test_a_gap_of_a_stream_that_is_read_counts(lake, tmp_path, minutes, gap):
    land(lake, "okta", okta(1), entries=[covered(0, 40), covered(60, 1440)])
    land(lake, "jumpcloud", jumpcloud(1), entries=[covered(60, 1440)])
    rules = read(tmp_path, rule(1, {"eventType": "a"}), correlation(2, [1], gte=2))
    (one,) = rules.correlations.values()
    gaps = Gaps(lake, rules, ALL, LATER)
    since, until = (START + timedelta(minutes=each) for each in minutes)
    assert gaps.within(one, since, until) is gap


def test_a_gap_of_any_stream_counts_for_a_correlation_over_events(lake, tmp_path):
    land(lake, "okta", okta(1), entries=[covered(0, 1440)])
    land(lake, "jumpcloud", jumpcloud(1), entries=[covered(0, 40), covered(60, 1440)])
    events = rule(1, {"action": "a"}, product="auditlake")
    rules = read(tmp_path, events, correlation(2, [1], gte=2))
    (one,) = rules.correlations.values()
    gaps = Gaps(lake, rules, ALL, LATER)
    assert gaps.within(one, START, START + timedelta(minutes=50))
    assert not gaps.within(one, START, START + timedelta(minutes=30))
