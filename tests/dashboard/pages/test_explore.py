"""The page Explore, run without a browser."""

from __future__ import annotations

from pathlib import Path

from tests.dashboard.conftest import EVENTS
from tests.dashboard.shown import App, address, shown_text


def test_the_page_shows_totals_and_the_first_page(app: App, filled: Path) -> None:
    page = app(filled).run()
    assert not page.exception
    assert f"<b>{EVENTS:,}</b> events" in shown_text(page)
    assert f"1\N{EN DASH}500 of {EVENTS:,}" in shown_text(page)
    assert len(page.dataframe[-1].value) == 500
    assert address(page) == {}
