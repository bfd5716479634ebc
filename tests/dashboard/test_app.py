"""The app run over real tables without a browser."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from streamlit.testing.v1 import AppTest

from pipelines.extraction import schedule
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import tables
from tests.dashboard import small_lakes
from tests.dashboard.conftest import EVENTS

App = Callable[[Path], AppTest]
SOURCES = "from dashboard.pages import sources\nsources.show()"


def shown_text(app: AppTest) -> str:
    texts = [*app.caption, *app.markdown, *app.text, *app.get("html")]
    return "\n".join(str(getattr(text, "value", None) or text.proto.body) for text in texts)


def address(app: AppTest) -> dict[str, list[str]]:
    return {key: one if isinstance(one, list) else [one] for key, one in app.query_params.items()}


def chips(app: AppTest) -> list[str]:
    return [button.label for button in app.button if (button.key or "").startswith("chip_")]


def test_the_page_shows_totals_and_the_first_page(app: App, filled: Path) -> None:
    page = app(filled).run()
    assert not page.exception
    assert f"<b>{EVENTS:,}</b> events" in shown_text(page)
    assert f"1\N{EN DASH}500 of {EVENTS:,}" in shown_text(page)
    assert len(page.dataframe[-1].value) == 500
    assert address(page) == {}


def test_a_search_is_in_the_url_and_narrows_the_result(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.text_input(key="search").set_value("actor:ada* -outcome:failure").run()
    assert not page.exception
    assert address(page)["q"] == ["actor:ada* -outcome:failure"]
    shown = page.dataframe[-1].value
    assert set(shown["actor"]) == {"ada@acme.example"}


def test_a_url_restores_filters_as_removable_chips(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["f"] = ["integration:okta", "-outcome:success"]
    page.run()
    assert chips(page) == ["Integration is okta", "Outcome is not success"]
    page.button(key="chip_1").click().run()
    assert address(page)["f"] == ["integration:okta"]
    page.button(key="clear").click().run()
    assert address(page) == {}


def test_grouping_is_in_the_url(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.button_group(key="by").set_value("actor").run()
    assert not page.exception
    assert address(page)["by"] == ["actor"]


def test_a_preset_and_a_time_zone_are_in_the_url(app: App, filled: Path) -> None:
    page = app(filled).run()
    page.button_group(key="preset-7d").set_value("24h").run()
    page.selectbox(key="zone-UTC").set_value("Asia/Tokyo").run()
    assert not page.exception
    assert address(page)["range"] == ["24h"]
    assert address(page)["tz"] == ["Asia/Tokyo"]
    assert "times in Asia/Tokyo" in shown_text(page)


def test_a_link_opens_an_event_outside_the_search(app: App, filled: Path) -> None:
    day, uid = newest(filled)
    page = app(filled)
    page.query_params["range"] = "2026-01-01T00:00:00Z..2026-01-02T00:00:00Z"
    page.run()
    assert "No events match" in shown_text(page)
    page = app(filled)
    page.query_params["f"] = ["-integration:" + uid.split(":")[0]]
    page.query_params["ev"] = f"{day}/{uid}"
    page.run()
    assert not page.exception
    assert uid in shown_text(page)
    assert "matches the record" in shown_text(page)


def test_a_missing_event_is_reported(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["ev"] = "2026-01-01/okta:system_log:nothing"
    page.run()
    assert not page.exception
    assert "not in the lake" in shown_text(page)


def test_filtering_by_a_value_in_the_details_keeps_them_open(app: App, filled: Path) -> None:
    day, uid = newest(filled)
    page = app(filled)
    page.query_params["ev"] = f"{day}/{uid}"
    page.run()
    page.button(key="only_integration").click().run()
    assert f"integration:{uid.split(':')[0]}" in address(page)["f"]
    assert address(page)["ev"] == [f"{day}/{uid}"]


def test_a_second_target_is_searched_for_by_name(app: App, tmp_path: Path) -> None:
    targets = [{"id": name, "name": name, "type": "User"} for name in ("ada", 'gr "ace')]
    now = datetime.now(UTC)
    rows = [
        small_lakes.event(1, now, random.Random(1)) | {"targets": targets},
        small_lakes.event(2, now, random.Random(2)),
    ]
    small_lakes.append(tmp_path, rows)
    page = app(tmp_path)
    found = pl.read_delta(str(tmp_path / "events")).filter(event_id="00000001").row(0, named=True)
    page.query_params["ev"] = f"{found['date']}/{found['event_uid']}"
    page.run()
    page.button(key="only_target_2").click().run()
    assert address(page)["q"] == ['"gr \\"ace"']
    assert "<b>1</b> event ·" in shown_text(page)
    page.button(key="exclude_target_2").click().run()
    assert "No events match" in shown_text(page)


def test_an_empty_result_can_be_cleared(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["q"] = "acter:nobody"
    page.run()
    assert "No events match" in shown_text(page)
    assert "Unknown field acter" in shown_text(page)
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


def test_an_invalid_configuration_is_reported(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = app(tmp_path)
    (tmp_path / "faulty.toml").write_text("[lake]\nrot = 1\n")
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "faulty.toml"))
    page.run()
    assert not page.exception
    assert "lake.rot: unknown key" in shown_text(page)


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


def newest(root: Path) -> tuple[str, str]:
    """Day and name of the newest event."""
    table = DeltaTable(root / "events").to_pyarrow_table(columns=["date", "time", "event_uid"])
    row = max(table.to_pylist(), key=lambda row: row["time"])
    return str(row["date"]), row["event_uid"]
