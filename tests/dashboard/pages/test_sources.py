"""The page Sources."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import tables
from tests.dashboard.conftest import EVENTS
from tests.dashboard.shown import App

SOURCES = "from dashboard.pages import sources\nsources.show()"


def test_sources_list_every_stream(app: App, filled: Path) -> None:
    app(filled)
    page = AppTest.from_string(SOURCES, default_timeout=120).run()
    assert not page.exception
    assert page.dataframe[0].value["events"].sum() == EVENTS


def test_sources_show_the_next_poll_and_its_reason(
    app: App, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app(filled)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    following = datetime.now(UTC) + timedelta(hours=30)
    plan = NextPoll(next=following, interval=600.0, why="nothing new")
    schedule.save(tables.Lake(str(filled)), tables.StreamKey("okta", "system_log"), plan)
    page = AppTest.from_string(SOURCES, default_timeout=120).run()
    assert not page.exception
    rows = page.dataframe[0].value.set_index("integration")
    assert rows.loc["okta", "next"] == "in 30 h"
    assert rows.loc["okta", "reason"] == "every 10 min: nothing new"
    assert rows.loc["atlassian", "reason"] == ""
