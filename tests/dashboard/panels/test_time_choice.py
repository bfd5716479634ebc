"""Pages other than Explore have a time range too, which their address contains."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.dashboard.shown import App, address, shown_text

ENTITIES = "from dashboard.screens import entities\nentities.show()"
ADA = "ada@acme.example"


def looked_up(app: App, root: Path, **params: str) -> AppTest:
    app(root)
    page = AppTest.from_string(ENTITIES, default_timeout=120)
    for name, value in {"v": ADA, **params}.items():
        page.query_params[name] = value
    return page.run()


def events(page: AppTest) -> int:
    texts = [text.value for text in page.text]
    return int(texts[1].replace(",", ""))


def test_a_time_range_narrows_the_whole_page(app: App, filled: Path) -> None:
    everything = looked_up(app, filled)
    recent = looked_up(app, filled, range="24h")
    assert not everything.exception
    assert not recent.exception
    assert 0 < events(recent) < events(everything)
    recent.button_group(key="time-24h").set_value("All time").run()
    assert events(recent) == events(everything)
    assert "range" not in address(recent)


def test_a_range_of_its_own_is_shown_and_removed(app: App, filled: Path) -> None:
    until = datetime.now(UTC)
    since = until - timedelta(hours=30)
    span = f"{since:%Y-%m-%dT%H:%M:%SZ}..{until:%Y-%m-%dT%H:%M:%SZ}"
    page = looked_up(app, filled, range=span)
    assert not page.exception
    page.button(key="time_own").click().run()
    assert "range" not in address(page)


def test_parameters_that_are_not_understood_are_named(app: App, filled: Path) -> None:
    page = looked_up(app, filled, kind="colour", range="7x")
    assert len(page.warning) == 2
    texts = [one.value for one in page.text]
    assert texts[0].startswith("kind=colour is none of actor, ")
    assert texts[1].startswith("range=7x is no time; all time is shown.")


def test_a_range_without_events_shows_how_to_see_them(app: App, filled: Path) -> None:
    page = looked_up(app, filled, range="2020-01-01T00:00:00Z..2020-01-02T00:00:00Z")
    assert not page.exception
    assert "Choose All time" in shown_text(page)


def test_a_time_is_typed_as_on_explore(app: App, filled: Path) -> None:
    page = looked_up(app, filled)
    page.text_input(key="time_typed_text").set_value("31 Feb")
    page.button(key="FormSubmitter:time_typed-Apply").click().run()
    assert "is no day of the calendar" in shown_text(page)
    assert "range" not in address(page)
    page.text_input(key="time_typed_text").set_value("last 24h")
    page.button(key="FormSubmitter:time_typed-Apply").click().run()
    assert not page.exception
    assert address(page)["range"] == ["24h"]
    assert "calendar" not in shown_text(page)


def test_whole_days_are_chosen_from_a_calendar(app: App, filled: Path) -> None:
    page = looked_up(app, filled)
    page.date_input(key="time_days-All time").set_value((date(2026, 11, 2), date(2026, 11, 3)))
    page.run()
    assert not page.exception
    assert address(page)["range"] == ["2026-11-02T00:00:00Z..2026-11-04T00:00:00Z"]
