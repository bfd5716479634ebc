"""Sources show how completely any chosen time was fetched, and how the last poll ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import coverage
from dashboard.panels import span_coverage
from pipelines.lake import coverage as entries
from pipelines.lake import tables
from pipelines.lake.stream_state import Failure, History
from pipelines.sdk.pages import Span
from tests.dashboard.conftest import fill
from tests.dashboard.shown import App, shown_text

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WHOLE = Span(since=NOW - 9 * DAY, until=NOW)
ZONE = ZoneInfo("UTC")


def polled(*asked: Span, failed: bool = False) -> History:
    failures = (Failure(at=NOW - timedelta(minutes=1), reason="401"),) if failed else ()
    return History(
        asked=asked,
        final=asked,
        known=WHOLE,
        polled_at=NOW - timedelta(minutes=1),
        answered_at=NOW - timedelta(minutes=2),
        failures=failures,
    )


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (polled(WHOLE), ("100.0 %", "60 s ago", "succeeded", "")),
        (polled(WHOLE, failed=True), ("100.0 %", "60 s ago", "failed: 401", "")),
        (History(), ("", "never", "")),
    ],
)
def test_a_stream_has_its_share_its_last_poll_and_the_result(
    history: History, expected: tuple[str, ...]
) -> None:
    known = coverage.at({("okta", "log"): history}, NOW)
    span = Span(since=NOW - 3 * DAY, until=NOW - DAY)
    found = span_coverage.row(known, ("okta", "log"), span, ZONE)
    assert found[:2] == ("okta", "log")
    assert found[2 : 2 + len(expected)] == expected


def test_what_is_missing_in_the_time_is_listed_with_its_ends() -> None:
    half = Span(since=WHOLE.since, until=NOW - 2 * DAY)
    known = coverage.at({("okta", "log"): polled(half)}, NOW)
    span = Span(since=NOW - 3 * DAY, until=NOW - DAY)
    *_, missing = span_coverage.row(known, ("okta", "log"), span, ZONE)
    ends = f"{half.until:%d %b %Y %H:%M:%S} to {span.until:%d %b %Y %H:%M:%S}"
    assert missing.startswith(f"missing {ends}: ")
    assert (
        span_coverage.row(
            known, ("okta", "log"), Span(since=NOW - 5 * DAY, until=half.until), ZONE
        )[-1]
        == ""
    )


def test_the_time_since_a_recent_poll_is_not_missing() -> None:
    done = Span(since=WHOLE.since, until=NOW - timedelta(minutes=1))
    healthy, failing = (replace(polled(done, failed=bad), known=done) for bad in (False, True))
    for history, missing in ((healthy, False), (failing, True)):
        known = coverage.at({("okta", "log"): history}, NOW)
        assert bool(span_coverage.row(known, ("okta", "log"), WHOLE, ZONE)[-1]) == missing
        assert bool(known.uncovered(("okta", "log"), WHOLE.since, NOW)) == missing


def test_time_that_late_events_may_change_is_covered_but_named() -> None:
    settled = Span(since=WHOLE.since, until=NOW - 3 * DAY)
    known = coverage.at({("okta", "log"): replace(polled(WHOLE), final=(settled,))}, NOW)
    assert (
        "late events may still come" in span_coverage.row(known, ("okta", "log"), WHOLE, ZONE)[-1]
    )
    assert span_coverage.sentence(known, WHOLE) == (
        "1 of 1 stream covers this time; late events of 1 may still come"
    )


def test_the_page_shows_the_time_of_its_link(app: App, tmp_path: Path) -> None:
    fill(tmp_path)
    now = datetime.now(UTC).replace(microsecond=0)
    done = entries.Entry(since=now - 30 * DAY, until=now, asked_at=now)
    lake = tables.Lake(str(tmp_path))
    entries.record(lake, tables.StreamKey("okta", "system_log"), [done])
    app(tmp_path)
    page = AppTest.from_string(
        "from dashboard.screens import sources\nsources.show()", default_timeout=120
    )
    since = now - 20 * DAY
    page.query_params["range"] = f"{since:%Y-%m-%dT%H:%M:%SZ}..{since + DAY:%Y-%m-%dT%H:%M:%SZ}"
    page.run()
    assert not page.exception
    assert "1 of 1 stream covers this time" in shown_text(page)
