"""The page Sources."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import open_lake
from pipelines import settings
from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.integrity import retired_streams
from pipelines.integrity.retired_streams import Retirement
from pipelines.lake import coverage, events, raw, streams, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from tests.dashboard.conftest import EVENTS, fill
from tests.dashboard.shown import App
from tests.lake.batches import batch, part

SOURCES = "from dashboard.screens import sources\nsources.show()"


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


def test_sources_show_a_failing_stream_without_events_and_content_that_is_gone(
    app: App, tmp_path: Path
) -> None:
    fill(tmp_path / "lake")
    app(tmp_path / "lake")
    lake, now = tables.Lake(str(tmp_path / "lake")), datetime.now(UTC).replace(microsecond=0)
    hours = [now - timedelta(hours=n) for n in range(5)]
    new, okta = tables.StreamKey("new", "audit"), tables.StreamKey("okta", "system_log")
    failed = Entry(
        since=hours[2], until=hours[2], asked_at=hours[2], outcome="failed", reason="401"
    )
    wanted = Entry(since=hours[4], until=hours[2], asked_at=hours[2], outcome="wanted")
    coverage.record(lake, new, [wanted, failed])
    done = Entry(since=hours[4], until=now, asked_at=now)
    gone = Entry(since=hours[3], until=hours[2], asked_at=now, outcome="gone", reason="404: blob")
    coverage.record(lake, okta, [done, gone])
    page = AppTest.from_string(SOURCES, default_timeout=120).run()
    assert not page.exception
    rows = page.dataframe[0].value.set_index("integration")
    assert list(rows.loc["new", "state"]) == ["failing"]
    assert rows.loc["new", "reason"] == "failing for 2 h: 401"
    assert (rows.loc["new", "events"], rows.loc["new", "gaps"]) == (0, "1")
    assert list(rows.loc["okta", "state"]) == ["up to date"]
    assert rows.loc["okta", "gaps"] == "1"
    assert (rows.loc["okta", "lost"], rows.loc["new", "lost"]) == ("1", "")
    assert set(page.dataframe[1].value["reason"]) >= {"401", "LOST: 404: blob"}


def test_sources_show_a_stream_that_is_switched_off_until_it_is_retired(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, config = tmp_path / "lake", tmp_path / "auditlake.toml"
    fill(root)
    app(root)
    config.write_text(f'[integrity]\nfolder = "{tmp_path}/state"\n[integrations.entra_id]\n')
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(config))
    lake, now = tables.configured(settings.load(config)), datetime.now(UTC).replace(microsecond=0)
    former, then = tables.StreamKey("former", "audit"), now - timedelta(hours=9)
    streams.record(lake, former, Facts(kind="okta", title="Okta"), then)
    done = Entry(since=then - timedelta(hours=1), until=then, asked_at=then)
    coverage.record(lake, former, [done])

    def row() -> pd.Series[Any]:
        open_lake._retired.clear()
        page = AppTest.from_string(SOURCES, default_timeout=120).run()
        assert not page.exception
        return page.dataframe[0].value.set_index("integration").loc["former"]

    assert list(row()["state"]) == ["not polled"]
    assert row()["reason"] == (
        f"not polled since {then:%Y-%m-%d %H:%M:%S} UTC, because it is no longer configured: "
        "configure it again, or run `auditlake retire former/audit`"
    )
    why = Retirement(logs=(former,), who="ada", why="replaced")
    retired_streams.retire(lake, why, now)
    assert list(row()["state"]) == ["retired"]
    assert row()["reason"] == f"retired at {now:%Y-%m-%d %H:%M:%S} UTC"


def test_sources_know_coverage_that_only_raw_commits_contain_and_lost_ranges_of_any_age(
    app: App, lake: tables.Lake
) -> None:
    log, now = tables.StreamKey("okta", "system_log"), datetime.now(UTC).replace(microsecond=0)
    streams.record(lake, log, Facts(kind="okta", title="Okta"), now)
    hours = [now - timedelta(hours=n) for n in range(3)]
    done = [Entry(since=hours[2], until=hours[1], asked_at=hours[1])]
    years = [now - timedelta(days=days) for days in (800, 400)]
    coverage.record(lake, log, [
        *done, Entry(since=years[0], until=years[1], asked_at=now, outcome="expired", reason="old"),
    ])  # fmt: skip
    newer = [Entry(since=hours[1], until=now, asked_at=now)]
    raw.append(lake, log, batch("a", "b"), "cursor", entries=newer)
    derived = part(log, 0, 1)
    dated = derived.events.with_columns(time=pl.lit(now), date=pl.lit(now.date()))
    events.append_batches(lake, [derived._replace(events=dated)])
    app(Path(lake.root))
    page = AppTest.from_string(SOURCES, default_timeout=120).run()
    assert not page.exception
    (row,) = page.dataframe[0].value.to_dict("records")
    assert list(row["state"]) == ["events behind raw"]
    assert (row["shown"], row["gaps"], row["lost"]) == ("0.6 %", "0", "1")
    assert list(page.dataframe[1].value["reason"]) == ["LOST: old"]
