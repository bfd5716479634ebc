"""The plan of windows: nothing within the published lag is ever missed, and idleness is cheap."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import coverage
from pipelines.integration import Span

START = datetime(2026, 1, 10, tzinfo=UTC)
LAG = timedelta(hours=12)
STEPS = coverage.ladder(window=timedelta(hours=6), settle=timedelta(minutes=5), lag=LAG)
HISTORY = timedelta(days=3)

events = st.lists(
    st.tuples(
        st.integers(0, 48 * 3600),  # seconds after START it happened
        st.integers(0, int(LAG.total_seconds())),  # seconds until it was visible
    ),
    max_size=30,
)
rounds = st.lists(st.integers(1, 8 * 3600), min_size=1, max_size=12)


class Vendor:
    """Shows what has arrived, and counts questions."""

    def __init__(self, arrivals: list[tuple[datetime, datetime]]) -> None:
        self.arrivals = arrivals
        self.now = START
        self.asked: list[Span] = []

    def read(self, _client, span):
        self.asked.append(span)
        found = [
            f"{happened.isoformat()}#{index}".encode()
            for index, (happened, arrived) in enumerate(self.arrivals)
            if arrived <= self.now and span.since <= happened < span.until
        ]
        yield found


def walk(vendor, cursor, now, found):
    vendor.now = now
    for page in coverage.pages(STEPS, vendor.read)(None, cursor, now):
        found.update(page.records)
        cursor = page.cursor
    return cursor


@settings(max_examples=150, deadline=None)
@given(events, rounds)
def test_every_event_within_the_published_lag_is_found(happenings, pauses):
    arrivals = [
        (START + timedelta(seconds=at), START + timedelta(seconds=at + late))
        for at, late in happenings
    ]
    vendor, found = Vendor(arrivals), set()
    cursor = coverage.begin(STEPS)(START - HISTORY, START)
    now = START
    for pause in pauses:
        now += timedelta(seconds=pause)
        cursor = walk(vendor, cursor, now, found)
    last = max((arrived for _, arrived in arrivals), default=now)
    end = max(now, last + LAG * 2)
    walk(vendor, cursor, end, found)
    assert len(found) == len(arrivals)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 600), min_size=1, max_size=40))
def test_rounds_close_together_ask_little(pauses):
    vendor, now = Vendor([]), START
    cursor = walk(vendor, coverage.begin(STEPS)(START - HISTORY, START), now, set())
    vendor.asked.clear()
    for pause in pauses:
        now += timedelta(seconds=pause)
        cursor = walk(vendor, cursor, now, set())
    elapsed = now - START
    again = sum(elapsed / STEPS.step(rung) + 1 for rung in range(len(STEPS.ages)))
    assert len(vendor.asked) <= len(pauses) + again


def test_history_is_read_newest_first_and_wholly():
    vendor = Vendor([])
    walk(vendor, coverage.begin(STEPS)(START - HISTORY, START), START, set())
    assert vendor.asked[0].until == START
    spans = sorted(vendor.asked, key=lambda span: span.since)
    assert spans[0].since == START - HISTORY
    assert all(a.until >= b.since for a, b in pairwise(spans))
    assert [s.until for s in vendor.asked] == sorted((s.until for s in vendor.asked), reverse=True)


def test_a_window_cut_short_is_asked_again():
    class Broken(Vendor):
        def read(self, client, span):
            yield from super().read(client, span)
            raise ConnectionError

    vendor, seen = Broken([]), []
    cursor = coverage.begin(STEPS)(START - HISTORY, START)
    try:
        for page in coverage.pages(STEPS, vendor.read)(None, cursor, START):
            seen.append(page.cursor)
    except ConnectionError:
        pass
    assert seen == [cursor]
