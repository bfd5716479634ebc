"""The page Explore, run without a browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dashboard.lake import Lake
from dashboard.panels import activity, events
from dashboard.queries import Filter
from dashboard.screens import explore
from dashboard.state import View
from pipelines.errors import LakeError
from tests.dashboard import small_lakes
from tests.dashboard.conftest import EVENTS
from tests.dashboard.shown import App, address, shown_text


def test_the_page_shows_totals_and_the_first_page(app: App, filled: Path) -> None:
    page = app(filled).run()
    assert not page.exception
    assert f"<b>{EVENTS:,}</b> events" in shown_text(page)
    assert f"1\N{EN DASH}500 of {EVENTS:,}" in shown_text(page)
    assert len(page.dataframe[-1].value) == 500
    assert address(page) == {}


def test_a_search_is_recorded_before_its_result_is_shown(app: App, tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(20, end=datetime.now(UTC)))
    page = app(tmp_path)
    page.query_params["q"] = "ada"
    page.run()
    assert not page.exception
    row = Lake(str(tmp_path), {}).access.newest(1).row(0, named=True)
    assert (row["what"], row["about"]) == ("searched", "q=ada")


def test_nothing_is_shown_if_the_access_cannot_be_recorded(app: App, tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(20, end=datetime.now(UTC)))
    (tmp_path / "access").write_text("a file where the table should be")
    page = app(tmp_path).run()
    assert "The lake cannot be read" in shown_text(page)
    assert not page.dataframe


def test_a_lake_that_cannot_be_read_any_more_is_reported_once(
    app: App, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LakeError("gone")

    page = app(filled).run()
    monkeypatch.setattr(activity, "show", fail)
    monkeypatch.setattr(events, "_show", fail)
    page.run()
    assert not page.exception
    assert shown_text(page).count("The lake cannot be read") == 1
    monkeypatch.undo()
    app(filled)
    page.button(key="try_again").click().run()
    assert page.dataframe


def test_outliers_replace_the_table_of_events(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.button_group(key="view_tab").set_value("out").run()
    assert not page.exception
    assert address(page) == {"tab": ["out"]}
    assert "newest first" not in shown_text(page)


def test_the_title_of_the_browser_tab_is_bounded_and_names_the_search() -> None:
    wanted = (Filter(field="actor", value="ada@acme.example"),)
    assert explore._name(View(filters=wanted, text="x")) == "ada@acme.example · x · auditlake"
    assert explore._name(View()) == "auditlake"
    assert len(explore._name(View(text="a" * 500))) == 120
