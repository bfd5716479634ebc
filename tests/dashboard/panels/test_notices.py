"""Messages where there is nothing to show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from deltalake import DeltaTable
from streamlit.testing.v1 import AppTest

from pipelines.lake import coverage, streams, tables
from pipelines.lake.stream_state import Facts
from tests.dashboard import small_lakes
from tests.dashboard.conftest import EVENTS, fill
from tests.dashboard.shown import App, shown_text


def test_an_empty_result_can_be_cleared(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["q"] = "actor:nobody"
    page.run()
    assert "No events match" in shown_text(page)
    page.button(key="empty_clear").click().run()
    assert f"<b>{EVENTS:,}</b> events" in shown_text(page)


def nobody(page: AppTest) -> str:
    page.query_params["q"] = "integration:okta actor:nobody"
    page.run()
    assert not page.exception
    assert len(page.get("vega_lite_chart")) == 1
    return shown_text(page)


def test_an_empty_result_differs_where_nothing_was_polled(app: App, tmp_path: Path) -> None:
    fill(tmp_path)
    lake, now = tables.Lake(str(tmp_path)), datetime.now(UTC)
    for stream in ("system_log", "other"):
        streams.record(lake, tables.StreamKey("okta", stream), Facts(kind="okta"), now)
    streams.record(lake, tables.StreamKey("jumpcloud", "all"), Facts(kind="jumpcloud"), now)
    text = nobody(app(tmp_path))
    assert "0 of 2 streams cover this time." in text
    assert "This time is not covered" in text
    assert "`auditlake backfill` fetches a range again" in text
    done = coverage.Entry(since=now - timedelta(days=30), until=now, asked_at=now)
    coverage.record(lake, tables.StreamKey("okta", "system_log"), [done])
    text = nobody(app(tmp_path))
    assert "1 of 2 streams cover this time." in text
    assert "No events match" in text
    coverage.record(lake, tables.StreamKey("okta", "other"), [done])
    text = nobody(app(tmp_path))
    assert "2 of 2 streams cover this time." in text
    assert "backfill" not in text


def test_a_lake_without_events_was_polled_or_not(app: App, tmp_path: Path) -> None:
    lake, now = tables.Lake(str(tmp_path)), datetime.now(UTC)
    streams.record(lake, tables.StreamKey("okta", "system_log"), Facts(kind="okta"), now)
    assert "Nothing was polled yet" in shown_text(app(tmp_path).run())
    failed = coverage.Entry(since=now, until=now, asked_at=now, outcome="failed", reason="401")
    coverage.record(lake, tables.StreamKey("okta", "system_log"), [failed])
    text = shown_text(app(tmp_path).run())
    assert "No events yet" in text
    assert "1 failing" in text
    page = AppTest.from_string("from dashboard.screens import sources\nsources.show()").run(
        timeout=120
    )
    assert not page.exception
    (row,) = page.dataframe[0].value.to_dict("records")
    assert (row["stream"], list(row["state"]), row["events"]) == ("system_log", ["failing"], 0)


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
