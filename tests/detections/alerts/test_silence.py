"""A stream that answers but returns far fewer events than usual is silent."""

from datetime import timedelta

import polars as pl
import pytest

from pipelines.detections.alerts import silence
from pipelines.lake import coverage, events
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import StreamKey
from pipelines.schemas import EVENTS
from tests.detections.alerts.world import HOUR, MINUTE, NOW

LOG = StreamKey("okta", "system_log")
WEEK = timedelta(weeks=1)
AT = NOW + 20 * MINUTE


def happened(lake, counts):
    """Land that many events in each of these hours."""
    done = events.derived(lake, LOG)
    times = [hour + timedelta(seconds=n) for hour, count in counts.items() for n in range(count)]
    rows = [
        {
            **dict.fromkeys(EVENTS),
            "integration": "okta",
            "stream": "system_log",
            "time": time,
            "date": time.date(),
        }
        for time in times
    ]
    frame = pl.DataFrame(rows, EVENTS)
    events.append(lake, LOG, done, done + len(rows), lambda: frame)


def weekly(count):
    """Return the last two complete hours of four weeks."""
    hours = NOW - 2 * HOUR, NOW - HOUR
    return {hour - n * WEEK: count for n in range(1, 5) for hour in hours}


def found(lake, since=NOW - 6 * WEEK, facts=Facts(kind="okta")):  # noqa: B008 it is frozen
    coverage.record(lake, LOG, [Entry(since=since, until=AT, asked_at=AT)])
    return list(silence.streams(lake, {LOG: coverage.history(lake, LOG, facts)}, AT))


def test_far_fewer_events_than_in_the_weeks_before_are_silence(lake):
    happened(lake, {**weekly(50), NOW - 2 * HOUR: 2, NOW - HOUR: 1})
    (one,) = found(lake)
    assert (one.key, one.count, one.usual, one.since) == (LOG, 3, 100, NOW - 2 * HOUR)
    assert one.of == {"okta"}


def test_one_week_that_differs_changes_nothing(lake):
    counts = weekly(50)
    holiday = {hour: 0 for hour in counts if hour > NOW - WEEK - 3 * HOUR}
    happened(lake, {**counts, **holiday})
    assert len(found(lake)) == 1


@pytest.mark.parametrize(
    ("usual", "now"),
    [
        (50, (0, 30)),  # only one of the hours
        (50, (6, 6)),  # few, but not far fewer
        (19, (0, 0)),  # too few for a comparison
    ],
)
def test_these_are_not(lake, usual, now):
    happened(lake, {**weekly(usual), NOW - 2 * HOUR: now[0], NOW - HOUR: now[1]})
    assert found(lake) == []


def test_a_stream_that_was_not_fetched_completely_is_not_silent(lake):
    happened(lake, weekly(50))
    assert found(lake, since=NOW - 90 * MINUTE) == []


def test_the_hours_are_those_whose_late_events_have_come(lake):
    happened(lake, {hour - HOUR: count for hour, count in weekly(50).items()})
    (one,) = found(lake, facts=Facts(kind="okta", lag=HOUR))
    assert one.since == NOW - 3 * HOUR


def test_a_lake_without_events_is_not_silent(lake):
    assert found(lake) == []
