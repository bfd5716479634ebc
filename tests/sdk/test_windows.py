"""Planning windows: nothing within the published lag is missed, and idle rounds are cheap."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import Refused, TooHeavy
from pipelines.lake import spans
from pipelines.sdk import windows
from pipelines.sdk.pages import Span

START = datetime(2026, 1, 10, tzinfo=UTC)
LAG = timedelta(hours=12)
STEPS = windows.reread_plan(window=timedelta(hours=6), settle=timedelta(minutes=5), lag=LAG)
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
    """Returns the events that have arrived, and counts queries."""

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
    for page in windows.pages(STEPS, vendor.read)(None, cursor, now):
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
    cursor = windows.begin(STEPS)(START - HISTORY, START)
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
def test_frequent_rounds_send_few_queries(pauses):
    vendor, now = Vendor([]), START
    cursor = walk(vendor, windows.begin(STEPS)(START - HISTORY, START), now, set())
    vendor.asked.clear()
    for pause in pauses:
        now += timedelta(seconds=pause)
        cursor = walk(vendor, cursor, now, set())
    elapsed = now - START
    again = sum(elapsed / STEPS.step(age) + 1 for age in STEPS.ages)
    assert len(vendor.asked) <= len(pauses) + again


def test_history_is_read_newest_first_and_completely():
    vendor = Vendor([])
    walk(vendor, windows.begin(STEPS)(START - HISTORY, START), START, set())
    assert vendor.asked[0].until == START
    spans = sorted(vendor.asked, key=lambda span: span.since)
    assert spans[0].since == START - HISTORY
    assert all(a.until >= b.since for a, b in pairwise(spans))
    assert [s.until for s in vendor.asked] == sorted((s.until for s in vendor.asked), reverse=True)


def test_an_interrupted_window_is_read_again():
    class Broken(Vendor):
        def read(self, client, span):
            yield from super().read(client, span)
            raise ConnectionError

    vendor, seen = Broken([]), []
    cursor = windows.begin(STEPS)(START - HISTORY, START)
    try:
        for page in windows.pages(STEPS, vendor.read)(None, cursor, START):
            seen.append(page.cursor)
    except ConnectionError:
        pass
    assert seen == [cursor]


lags = st.lists(st.integers(0, 20 * 3600), max_size=4).map(
    lambda found: [timedelta(seconds=seconds) for seconds in sorted(found)]
)


@given(lags)
def test_measured_lags_never_remove_the_published_lag_and_stay_within_the_budget(late):
    ages = windows.tune(STEPS, late)
    assert set(STEPS.always) <= set(ages)
    assert STEPS.cost(ages) <= STEPS.per_day + STEPS.cost(STEPS.always)
    assert list(ages) == sorted(set(ages))


def test_re_reads_follow_the_measured_lag():
    hour = timedelta(hours=1)
    assert windows.tune(STEPS, [timedelta(seconds=2)] * 3) == (LAG,)
    assert windows.tune(STEPS, [timedelta(seconds=2), hour, hour]) == (hour * 1.25, LAG)
    assert windows.tune(STEPS, [16 * hour]) == (LAG, 20 * hour)
    assert windows.tune(replace(STEPS, per_day=0), [hour]) == (LAG,)
    # A re-read at no more than twice its age makes one redundant: here at 12 hours, of 6.
    assert windows.tune(STEPS, [4.8 * hour]) == (6 * hour, LAG)
    assert windows.tune(STEPS, [5 * hour]) == (LAG,)


def test_a_greater_lag_is_read_again_from_twice_its_age_before_the_present():
    longer = windows.reread_plan(window=STEPS.window, settle=STEPS.settle, lag=4 * LAG)
    cursor = windows.begin(STEPS)(START - HISTORY, START)
    again = windows._load(cursor, longer).again
    live = START - STEPS.window
    assert again[-1] == windows.Reread(4 * LAG, live - 8 * LAG)
    assert [rung.age for rung in again] == [*longer.ages]
    assert all(rung.reached == START - rung.age for rung in again if rung.age < LAG)


@settings(max_examples=150, deadline=None)
@given(events, rounds, st.lists(lags, min_size=1, max_size=4))
def test_nothing_within_the_published_lag_is_missed_whatever_was_measured(
    happenings, pauses, measured
):
    arrivals = [
        (START + timedelta(seconds=at), START + timedelta(seconds=at + late))
        for at, late in happenings
    ]
    vendor, found = Vendor(arrivals), set()
    cursor, now = windows.begin(STEPS)(START - HISTORY, START), START
    walk(vendor, cursor, now, set())
    vendor.asked.clear()
    for number, pause in enumerate(pauses):
        cursor = windows.learn(STEPS)(cursor, measured[number % len(measured)])
        now += timedelta(seconds=pause)
        cursor = walk(vendor, cursor, now, found)
    again = [span for span in vendor.asked if span.until < now - STEPS.settle * 2]
    days = (now - START + HISTORY) / timedelta(days=1)
    allowed = STEPS.per_day + STEPS.cost(STEPS.always) + STEPS.cost(STEPS.ages)
    assert len(again) <= (days + 2) * allowed + len(pauses) * 8
    last = max((arrived for _, arrived in arrivals), default=now)
    walk(vendor, cursor, max(now, last + LAG * 2), found)
    assert len(found) == len(arrivals)


class Paged(Vendor):
    """Yields responses of ten records, in either order; may break off."""

    def __init__(self, arrivals, *, newest_first):
        super().__init__(arrivals)
        self.newest_first, self.left = newest_first, None

    def read(self, _client, span):
        self.asked.append(span)
        found = sorted(
            (happened, b'{"time":"%s","n":%d}' % (happened.isoformat().encode(), index))
            for index, (happened, _) in enumerate(self.arrivals)
            if span.since <= happened < span.until
        )
        found = [record for _, record in (found[::-1] if self.newest_first else found)]
        for start in range(0, max(1, len(found)), 10):
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise ConnectionError
            yield found[start : start + 10]


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(st.integers(0, 3 * 3600), min_size=1, max_size=80), st.data())
def test_an_interrupted_burst_resumes_in_the_middle_and_loses_nothing(newest_first, seconds, data):
    arrivals = [(START + timedelta(seconds=s // 60 * 60), START) for s in seconds]
    vendor, found, answers = Paged(arrivals, newest_first=newest_first), set(), 0
    now = START + timedelta(hours=4)
    cursor = windows.begin(STEPS)(START - timedelta(hours=1), START - timedelta(minutes=30))
    for _ in range(200):
        vendor.left, before = data.draw(st.integers(1, 4)), cursor
        try:
            for page in windows.pages(STEPS, vendor.read, "time")(None, cursor, now):
                found.update(page.records)
                cursor, answers = page.cursor, answers + 1
            break
        except ConnectionError:
            if cursor == before:
                vendor.left = None
    assert len(found) == len(arrivals)


@pytest.mark.parametrize("newest_first", [True, False])
def test_after_a_failure_a_window_resumes_after_its_last_response(newest_first):
    arrivals = [(START + timedelta(minutes=minute), START) for minute in range(100)]
    vendor, now = Paged(arrivals, newest_first=newest_first), START + timedelta(minutes=100)
    cursor, pages = windows.begin(STEPS)(START - timedelta(hours=1), START), []
    vendor.left = 3
    try:
        for page in windows.pages(STEPS, vendor.read, "time")(None, cursor, now):
            pages.append(page)
    except ConnectionError:
        vendor.left = None
    pages += windows.pages(STEPS, vendor.read, "time")(None, pages[-1].cursor, now)
    whole, again, *_ = vendor.asked
    border = START + timedelta(minutes=70 if newest_first else 29)
    assert border in (again.since, again.until.replace(microsecond=0))
    assert again.until - again.since < whole.until - whole.since
    assert len({record for page in pages for record in page.records}) == 100
    assert spans.minus([whole], filter(None, (page.covers for page in pages))) == ()


def test_an_hour_of_empty_time_since_the_saved_cursor_is_worth_saving_it_again():
    steps = windows.reread_plan(
        window=timedelta(minutes=20), settle=timedelta(minutes=5), lag=timedelta(0)
    )
    vendor = Vendor([])
    cursor = windows.begin(steps)(START, START)
    walked = windows.pages(steps, vendor.read)(None, cursor, START + timedelta(hours=4))
    ends = [(page.covers.until - START, page.milestone) for page in walked if page.covers]
    assert [end for end, milestone in ends if milestone] == [
        timedelta(hours=hour) for hour in range(1, 5)
    ]
    assert len(ends) == 12


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_response_of_two_records_covers_the_time_up_to_the_second(newest_first):
    minutes = (40, 20) if newest_first else (20, 40)
    times = [START + timedelta(minutes=minute) for minute in minutes]
    whole = Span(since=START, until=START + timedelta(hours=1))
    answer = [b'{"time":"%s"}' % time.isoformat().encode() for time in times]
    border = times[1] + timedelta(milliseconds=1) if newest_first else times[1]
    halves = Span(since=START, until=border), Span(since=border, until=whole.until)
    assert windows._split(whole, answer, "time") == (halves[::-1] if newest_first else halves)
    for odd in (answer[:1], [answer[0], answer[0]], [], [b"{}", b"{}"], [answer[0], b"[]"]):
        assert windows._split(whole, odd, "time") == (None, whole)


def test_a_span_that_is_too_heavy_is_read_in_halves_the_newer_first():
    class Heavy(Vendor):
        def read(self, client, span):
            if span.until - span.since > timedelta(hours=2):
                raise TooHeavy("too much at once")
            yield from super().read(client, span)

    vendor, hour = Heavy([]), timedelta(hours=1)
    cursor = windows.between(STEPS)(Span(since=START, until=START + 6 * hour), START + DAY)
    walk(vendor, cursor, START + DAY, set())
    hours = [((span.since - START) / hour, (span.until - START) / hour) for span in vendor.asked]
    assert hours == [(4.5, 6), (3, 4.5), (1.5, 3), (0, 1.5)]
    for length, halved in ((hour, False), (hour + timedelta(seconds=2), True)):
        span = Span(since=START, until=START + length)
        if halved:
            middle = START + length / 2
            halves = Span(since=START, until=middle), Span(since=middle, until=span.until)
            assert windows.halves(span, TooHeavy("")) == halves
        else:
            with pytest.raises(TooHeavy):
                windows.halves(span, TooHeavy(""))


DAY, KEPT = timedelta(days=1), timedelta(days=30)
NOW = START.replace(microsecond=500_000)


def refused(body=b"start is out of range", status=400):
    return Refused("refused", status=status, body=body)


def unkept(since, until, error=None, keeps=KEPT, later=windows.LATER):
    span = Span(since=NOW - since, until=NOW - until)
    return windows.unkept(span, keeps, error or refused(), NOW, iter(later)).span.until


def test_each_refusal_of_a_time_moves_the_start_a_little_further():
    later = iter(windows.LATER)
    span = Span(since=NOW - 90 * DAY, until=NOW)
    for step in windows.LATER:
        gap = windows.unkept(span, KEPT, refused(), NOW, later)
        assert gap.span == Span(since=span.since, until=START - KEPT + step)
        span = Span(since=gap.span.until, until=NOW)
    with pytest.raises(Refused):
        windows.unkept(span, KEPT, refused(), NOW, later)


@pytest.mark.parametrize(
    ("body", "days"),
    [(b"older than 7 days", 7), (b"outside the 7-day period of retention", 7), (b"90 days", 30)],
)
def test_a_refusal_may_name_a_shorter_time(body, days):
    start = START - days * DAY + windows.LATER[0]
    assert unkept(90 * DAY, 0 * DAY, refused(body)) == start
    assert unkept(90 * DAY, 40 * DAY, refused(body)) == NOW - 40 * DAY


def test_a_span_from_the_very_start_of_the_retention_needs_the_next_step():
    since = KEPT - windows.LATER[0] + timedelta(microseconds=500_000)
    assert unkept(since, 0 * DAY) == START - KEPT + windows.LATER[1]


def clock(monkeypatch, *, step):
    """Let each look at the clock of this machine be `step` later."""
    ticks = (number * step.total_seconds() for number in count())
    monkeypatch.setattr(windows, "clocks", SimpleNamespace(monotonic=lambda: next(ticks)))


KEEPING = windows.reread_plan(window=STEPS.window, settle=STEPS.settle, lag=LAG, keeps=KEPT)
OLDEST = START - KEPT + timedelta(seconds=5)  # a query takes its time to arrive


@pytest.mark.parametrize("hours", [0, 1])
def test_what_a_vendor_has_deleted_meanwhile_is_not_queried(monkeypatch, hours):
    clock(monkeypatch, step=timedelta(hours=hours))
    vendor = Vendor([])
    cursor = windows.begin(KEEPING)(START - 2 * KEPT, START)
    for _ in windows.pages(KEEPING, vendor.read)(None, cursor, START):
        pass
    assert min(span.since for span in vendor.asked) >= OLDEST + timedelta(hours=hours)
    if not hours:
        assert vendor.asked[-1].since == OLDEST


def test_a_stream_that_rested_longer_than_its_vendor_keeps_anything_goes_on_from_there():
    long_ago = START - 2 * KEPT
    rested = windows.Progress(live=long_ago, again=(windows.Reread(LAG, long_ago),))
    query = windows.next_query(KEEPING, rested, START)
    assert query.span == Span(since=OLDEST, until=OLDEST + KEEPING.window)
    assert query.then.again == (windows.Reread(LAG, OLDEST),)
    gone = Span(since=long_ago, until=OLDEST)
    for span, left in ((gone, None), (replace(gone, until=START), START)):
        resumed = replace(rested, rest=windows.Query(span=span, then=query.then))
        following = windows.next_query(KEEPING, resumed, START)
        assert following.span.until == (left or query.then.live + KEEPING.window)
        assert following.span.since >= OLDEST


def test_the_retention_at_the_time_of_the_refusal_counts(monkeypatch):
    clock(monkeypatch, step=timedelta(hours=1))

    class Refusing(Vendor):
        def read(self, _client, span):
            raise refused()

    hour = timedelta(hours=1)
    cursor = windows.between(KEEPING)(Span(since=OLDEST, until=OLDEST + 3 * hour), START)
    page = next(windows.pages(KEEPING, Refusing([]).read)(None, cursor, START))
    until = OLDEST + 2 * hour + windows.LATER[0]
    assert page.gaps[0].span == Span(since=OLDEST + hour, until=until)


@pytest.mark.parametrize(
    "options",
    [
        {"keeps": None},
        {"error": refused(status=403)},
        {"error": refused(b"no such user")},
        {"since": DAY},
        {"later": ()},
    ],
)
def test_a_refusal_with_another_cause_is_raised(options):
    with pytest.raises(Refused):
        unkept(**{"since": 90 * DAY, "until": 0 * DAY, **options})
