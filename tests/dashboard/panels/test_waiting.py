"""A long search shows its progress, and can be cancelled or ends by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import counts, open_lake, patience
from dashboard.access_log import Notes
from dashboard.lake import Snapshot
from dashboard.panels import events, waiting
from dashboard.queries import Query
from tests.dashboard.shown import App, shown_text

EXPLORE = "from dashboard.screens import explore\nexplore.show()"
SEARCH = {"q": "ada", "range": "30d"}


def page(app: App, root: Path, **address: str) -> AppTest:
    app(root)
    shown = AppTest.from_string(EXPLORE, default_timeout=120)
    for name, value in address.items():
        shown.query_params[name] = value
    return shown


def test_a_search_that_takes_too_long_ends_with_advice_in_its_place(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LIMIT", -1.0)
    shown = page(app, filled, **SEARCH).run()
    assert not shown.exception
    assert "This search takes too long" in shown_text(shown)
    assert not shown.dataframe
    assert shown.text_input(key="search").value == "ada"
    monkeypatch.undo()
    app(filled)
    shown.button(key="waiting_again").click().run()
    assert not shown.exception
    assert shown.dataframe


@pytest.mark.parametrize("text", ["ada", "actor:ada*"])
def test_a_cancelled_search_is_not_made_until_it_is_started_again(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The button is clicked while the search runs: its callback is called before the next run."""
    shown = page(app, filled, **SEARCH | {"q": text}).run()
    shown.session_state["waiting_cancelled"] = waiting.state.search(shown.session_state["view"])
    scans: list[object] = []
    monkeypatch.setattr(counts.Counts, "_count", lambda *query: scans.append(query))
    shown.run()
    assert not shown.exception
    assert "Search cancelled" in shown_text(shown)
    assert not shown.dataframe
    assert not scans
    monkeypatch.undo()
    app(filled)
    shown.button(key="waiting_again").click().run()
    assert not shown.exception
    assert shown.dataframe


def test_a_sorted_page_and_an_open_menu_are_counted_where_they_can_be_cancelled(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is before the fragments that show them, in which a click ends nothing."""
    watched: list[str] = []

    def parts(counted: counts.Counts, query: Query) -> Iterator[pl.LazyFrame]:
        caller = sys._getframe(1).f_code.co_name
        if patience._watcher.get():
            watched.append(caller)
        elif caller in ("_sorted", "targets"):
            watched.append(f"{caller}, unwatched")
        return real(counted, query)

    real = counts.Counts.parts
    monkeypatch.setattr(counts.Counts, "parts", parts)
    shown = page(app, filled, **SEARCH, sort="seq")
    shown.session_state["facet_wanted"] = "target", ""
    shown.run()
    assert not shown.exception
    assert {"_sorted", "targets"} <= {*watched}
    assert not [each for each in watched if "unwatched" in each]
    assert "facet_wanted" not in shown.session_state


def test_the_newest_events_of_a_long_search_are_shown_and_recorded_before_it_is_counted(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access: list[Notes] = []

    def recorded() -> list[int | None]:
        rows = access[0].newest(9)
        return rows.filter(pl.col("about").str.contains("q=grace"))["events"].to_list()

    def preview(snapshot: Snapshot, query: Query) -> None:
        real(snapshot, query)
        access.append(open_lake.configured().access)
        assert len(recorded()) == 1

    real = events.preview
    monkeypatch.setattr(counts, "_AT_ONCE", 60)
    monkeypatch.setattr(events, "preview", preview)
    shown = page(app, filled, **SEARCH | {"q": "grace"}).run()
    assert not shown.exception
    assert [n is None for n in recorded()] == [False, True]
    assert all(grid.key for grid in shown.dataframe)
    assert "the totals follow" not in shown_text(shown)


def test_another_search_is_made_after_one_was_cancelled(app: App, filled: Path) -> None:
    shown = page(app, filled, **SEARCH)
    shown.session_state["waiting_cancelled"] = "q=grace"
    shown.run()
    assert not shown.exception
    assert shown.dataframe


PROGRESS = """
import streamlit as st
from dashboard import patience
from dashboard.panels import waiting

waiting._AFTER = st.session_state["after"]
with waiting.cancellable():
    for part in patience.each(range(4)):
        st.session_state["parts"] = part
        if part == 2 and st.session_state["stop"]:
            st.stop()
"""


@pytest.mark.parametrize(("after", "buttons"), [(-1.0, ["Cancel"]), (3600.0, [])])
def test_the_progress_of_a_long_search_has_a_button_that_cancels_it(
    after: float, buttons: list[str]
) -> None:
    shown = AppTest.from_string(PROGRESS, default_timeout=60)
    shown.session_state["after"], shown.session_state["stop"] = after, True
    shown.run()
    assert not shown.exception
    assert [button.label for button in shown.button] == buttons
    if buttons:
        shown.button(key="waiting_cancel").click()
    shown.session_state["stop"] = False
    shown.run()
    assert not shown.exception
    assert shown.session_state["parts"] == 3
    assert not shown.button
    assert ("waiting_cancelled" in shown.session_state) is bool(buttons)
