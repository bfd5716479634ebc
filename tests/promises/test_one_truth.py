"""Every surface shows the same state and coverage of a stream, and it is that of the vendor.

AUDITLAKE_HISTORIES sets the number of histories.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dashboard import coverage as shown
from dashboard import lake as dashboard_lake
from pipelines.cli import status
from pipelines.cli.status import State
from pipelines.lake import stream_state
from pipelines.lake.stream_state import Coverage, Summary
from pipelines.orchestration import naming
from pipelines.sdk.pages import Gap, Span
from tests.promises.histories import BEGUN, FAULTS, KEEPS, KEY, LAG, MINUTE, Life

HISTORIES = int(os.environ.get("AUDITLAKE_HISTORIES", "8"))
UNRECORDED = timedelta(minutes=15)
"""Polls without new records are recorded at least this often."""
QUIET = timedelta(hours=1)

steps = st.one_of(
    st.tuples(st.just("poll")),
    st.tuples(st.just("poll")),
    st.tuples(st.just("wait"), st.integers(1, 90)),
    st.tuples(st.just("wait"), st.integers(200, 3000)),
    st.tuples(st.just("emit"), st.integers(0, 20)),
    st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.integers(1, 3)),
    st.tuples(st.just("lose"), st.integers(0, 600), st.integers(1, 60)),
    st.tuples(st.just("backfill"), st.integers(0, 90), st.integers(1, 40)),
    st.tuples(st.sampled_from(["maintain", "renormalise", "retain", "push", "kill"])),
)


def happen(life: Life, step: tuple) -> None:
    name, *arguments = step
    match name:
        case "push" | "kill":
            life.push(derived=name == "push")
        case _:
            getattr(life, name)(*arguments)
    life.wait(1)


numbers = count()


@given(st.lists(steps, min_size=5, max_size=14))
@settings(
    max_examples=HISTORIES,
    suppress_health_check=list(HealthCheck),
    # Shrinking a history takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_every_surface_shows_one_truth_and_it_is_the_vendors(tmp_path_factory, made):
    life = Life.at(tmp_path_factory.mktemp(f"life-{next(numbers)}"))
    open_since_the_start = dashboard_lake.Lake(life.lake.root, {})
    for step in [("poll",), *made]:
        happen(life, step)
        compare(life, open_since_the_start)


def compare(life: Life, opened: dashboard_lake.Lake) -> None:
    now = life.vendor.now
    (line,) = status.states(life.lake, [life.source], now)
    ((_, covered),) = status.covered(life.lake, [life.source], (), now)
    for lake in (opened, dashboard_lake.Lake(life.lake.root, {})):
        agree_with_the_dashboard(lake, line, covered, now)
    agree_with_dagster(life, line, now)
    agree_with_the_vendor(life, line, covered)


def agree_with_the_dashboard(
    lake: dashboard_lake.Lake, line: State, covered: Coverage, now: datetime
) -> None:
    lake.look()
    known = shown.of(lake, now)
    assert set(known.streams) == {KEY}
    assert known.summary(KEY, behind=KEY in lake.behind(lake.raws([KEY]))) == summary(line, covered)
    _, drawn = known.streams[KEY]
    assert drawn == covered
    recent = [(one.since, one.until, one.reason) for one in known.lost(KEY)]
    assert recent == [(one.span.since, one.span.until, one.reason) for one in covered.lost]
    covers = not known.uncovered(KEY, now - timedelta(days=1), now)
    assert not covers or line.state in ("up to date", "events behind raw")


def summary(line: State, covered: Coverage) -> Summary:
    state = stream_state.State(name=line.state, since=line.failing_since, reason=line.failure)
    return Summary(
        state=state,
        polled_at=line.last_polled,
        share=line.coverage,
        gaps=line.gaps,
        lost=line.lost,
        known=covered,
    )


def agree_with_dagster(life: Life, line: State, now: datetime) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(naming, "utc_now", lambda: now)
        figures = naming.state_figures(life.lake, life.source, life.stream)
    found = {name: getattr(each, "value", each) for name, each in figures.items()}
    expected = {
        "state": line.state,
        "failing since": line.failing_since and line.failing_since.timestamp(),
        "failure": line.failure,
        "last polled": line.last_polled and line.last_polled.timestamp(),
        "recent coverage": line.coverage,
        "recent gaps": line.gaps,
        "lost ranges": line.lost,
    }
    assert found == {name: value for name, value in expected.items() if value is not None}


def agree_with_the_vendor(life: Life, line: State, covered: Coverage) -> None:
    agree_on_the_state(life, line)
    points, now = list(moments(life)), life.vendor.now
    answered, gone = life.vendor.answered, [gap.span for gap in life.vendor.refused]
    asked = inside(points, (span for span, _ in answered))
    final = {
        point for point in points
        if any(span.since <= point < span.until and point < at - LAG for span, at in answered)
    }  # fmt: skip
    lost, deleted = inside(points, covered.lost), inside(points, gone)
    complete, settling = inside(points, covered.complete), inside(points, covered.settling)
    gaps = inside(points, covered.gaps)
    # Nothing is covered that the vendor has not answered, or has answered too early.
    assert complete <= final - lost
    assert settling <= asked - lost
    # All that it has answered is covered, but for the last polls that brought nothing.
    recorded = complete | settling
    for point in inside(points, (span for span, _ in life.settled)) - recorded - lost:
        assert life.succeeded_at - point < UNRECORDED + MINUTE
    # What is missing forever was deleted, or is older than the vendor keeps.
    # A backfill leaves out the minute that may be deleted while it reads.
    assert all(point in deleted or point < now - KEEPS + MINUTE for point in lost)
    assert deleted <= lost
    assert inside(points, life.expired) <= lost | asked
    assert sum(map(len, (complete, settling, gaps, lost))) == len(complete | settling | gaps | lost)


def agree_on_the_state(life: Life, line: State) -> None:
    failing: list[tuple[datetime, str]] = []
    for at, error in life.answers:
        failing = [*failing, (at, error)] if error else []
    assert (line.state == "failing") == bool(failing)
    if failing:
        assert (line.failing_since, line.failure) == (failing[0][0], failing[-1][1])
    elif life.vendor.now - life.polled_at <= QUIET - UNRECORDED:
        assert line.state in ("up to date", "events behind raw")
    assert line.last_polled is not None
    assert line.last_polled <= life.answers[-1][0]


def moments(life: Life) -> Iterator[datetime]:
    """Yield times within every third minute of all that any step may concern."""
    point, step = BEGUN - timedelta(hours=140), timedelta(minutes=3)
    while point < life.vendor.now:
        yield point + timedelta(seconds=30)
        point += step


def inside(points: Iterable[datetime], ranges: Iterable[Span | Gap]) -> set[datetime]:
    spans = [each.span if isinstance(each, Gap) else each for each in ranges]
    return {point for point in points if any(one.since <= point < one.until for one in spans)}
