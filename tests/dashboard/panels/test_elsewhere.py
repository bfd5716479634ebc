"""Events outside a range that has none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dashboard.panels import waiting
from tests.dashboard import small_lakes
from tests.dashboard.shown import App, address, shown_text

EMPTY = "2026-06-01T00:00:00Z..2026-06-02T00:00:00Z"


def test_an_empty_range_leads_to_the_events_outside_it(app: App, tmp_path: Path) -> None:
    end = datetime(2026, 3, 17, 9, tzinfo=UTC)
    small_lakes.append(tmp_path, small_lakes.events(40, end=end, days=4))
    small_lakes.append(
        tmp_path, small_lakes.events(40, end=end + timedelta(days=9), days=0, first=900)
    )
    page = app(tmp_path)
    page.query_params["range"] = EMPTY
    page.query_params["q"] = "event_id:000000*"
    page.run()
    button = page.button(key="elsewhere")
    assert button.label == "40 events outside this time, last on 17 Mar 2026 (UTC): show"
    button.click().run()
    assert address(page)["range"] == ["2026-03-13T00:00:00Z..2026-03-18T00:00:00Z"]
    assert "<b>40</b> events ·" in shown_text(page)


def test_without_any_event_there_is_no_such_offer(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["q"] = "nobody"
    page.run()
    assert "No events match" in shown_text(page)
    assert "elsewhere" not in [button.key for button in page.button]


def test_progress_is_shown_of_a_slow_search_and_of_the_slow_one_outside_it(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_AFTER", -1.0)
    page = app(filled)
    page.query_params["q"] = "a_stranger"
    page.run()
    assert not page.exception
    assert "No events match" in shown_text(page)


def test_when_it_was_cancelled_the_search_itself_still_shows_that_it_found_nothing(
    app: App, filled: Path
) -> None:
    page = app(filled)
    page.query_params["q"] = "another_stranger"
    page.session_state["outside_cancelled"] = "q=another_stranger"
    page.run()
    assert not page.exception
    assert "No events match" in shown_text(page)
    assert "Search cancelled" not in shown_text(page)
    page.button(key="outside_again").click().run()
    assert "outside_again" not in [button.key for button in page.button]
