"""Messages where there is nothing to show."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable

from tests.dashboard import small_lakes
from tests.dashboard.conftest import EVENTS
from tests.dashboard.shown import App, shown_text


def test_an_empty_result_can_be_cleared(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["q"] = "actor:nobody"
    page.run()
    assert "No events match" in shown_text(page)
    page.button(key="empty_clear").click().run()
    assert f"<b>{EVENTS:,}</b> events" in shown_text(page)


def test_a_missing_or_empty_lake_shows_no_events_yet(app: App, tmp_path: Path) -> None:
    assert "No events yet" in shown_text(app(tmp_path / "absent").run())
    small_lakes.append(tmp_path, [small_lakes.hostile(1, datetime.now(UTC))])
    DeltaTable(tmp_path / "events").delete()
    assert "No events yet" in shown_text(app(tmp_path).run())


def test_a_damaged_lake_is_reported_without_its_address(app: App, tmp_path: Path) -> None:
    log = tmp_path / "events" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("no log")
    page = app(tmp_path).run()
    assert "The lake cannot be read" in shown_text(page)
    assert str(tmp_path) not in shown_text(page)
