"""The page Access."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from dashboard.access_log import Seen
from dashboard.lake import Lake
from tests.dashboard.hands import (
    settled,
    shoot,
)
from tests.dashboard.shown import App
from tests.dashboard.small_lakes import HOSTILE

ATTACKER = "203.0.113.66"


PAGE = "from dashboard.screens import access\naccess.show()"


def test_accesses_are_listed_newest_first(app: App, tmp_path: Path) -> None:
    table, start = Lake(str(tmp_path), {}).access, datetime.now(UTC)
    for number, what in enumerate(("searched", "opened", "exported")):
        seen = Seen(who="ada@acme.example", what=what, about=HOSTILE, events=number)
        table.record(start + timedelta(seconds=number), seen)
    app(tmp_path)
    page = AppTest.from_string(PAGE, default_timeout=60).run()
    assert not page.exception
    rows = page.dataframe[0].value
    assert rows["what"].tolist() == ["exported", "opened", "searched"]
    assert set(rows["about"]) == {HOSTILE}


def test_before_the_first_access_the_list_is_empty(app: App, tmp_path: Path) -> None:
    app(tmp_path)
    page = AppTest.from_string(PAGE, default_timeout=60).run()
    assert not page.exception
    assert page.dataframe[0].value.empty


@pytest.mark.browser
def test_access_is_recorded(page: Page) -> None:
    page.goto("/?q=trace-of-mine")
    expect(page.get_by_text("No events match")).to_be_visible()
    page.goto(f"/entities?kind=source_ip&v={ATTACKER}")
    expect(page.locator(".st-key-facts")).to_be_visible()
    page.goto("/access")
    for text in ("q=trace-of-mine", f"source_ip:{ATTACKER}", "searched", "looked up"):
        expect(page.locator("[role=gridcell]").filter(has_text=text).first).to_be_attached()
    settled(page)
    shoot(page, "access")
