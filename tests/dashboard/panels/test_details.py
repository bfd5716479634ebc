"""The details pane of an event."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
from deltalake import DeltaTable
from playwright.sync_api import Page, expect

from pipelines.lake import identity_table
from pipelines.lake.tables import Lake
from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    click_place,
    day_of,
    details,
    grid,
    named,
    newest,
    opened,
    row_of,
    settled,
    shows,
    turn_to,
    visit,
)
from tests.dashboard.shown import App, address, newest_event, shown_text


def test_a_link_opens_an_event_outside_the_search(app: App, filled: Path) -> None:
    day, uid = newest_event(filled)
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


@pytest.mark.parametrize("search", ["", "nobody"])
def test_a_missing_event_is_reported_with_a_search_for_it(
    app: App, filled: Path, search: str
) -> None:
    _, uid = newest_event(filled)
    page = app(filled)
    page.query_params["q"] = search
    page.query_params["ev"] = f"2026-01-01/{uid}"
    page.run()
    assert not page.exception
    assert "no such event on 01 Jan 2026" in shown_text(page)
    page.button(key="search_uid").click().run()
    assert address(page) == {"range": ["365d"], "f": [f"event_uid:{uid}"]}
    assert "<b>1</b> event ·" in shown_text(page)
    assert len(page.dataframe[-1].value) == 1


def test_an_open_event_is_shown_although_the_search_finds_none(app: App, filled: Path) -> None:
    day, uid = newest_event(filled)
    page = app(filled)
    page.query_params["q"] = "nobody"
    page.query_params["ev"] = f"{day}/{uid}"
    page.run()
    assert "No events match" in shown_text(page)
    assert "matches the record" in shown_text(page)


def test_filtering_by_a_value_in_the_details_keeps_them_open(app: App, filled: Path) -> None:
    day, uid = newest_event(filled)
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


def test_an_actor_without_an_address_is_the_person_in_details_and_around(
    app: App, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    ours = {"integration": "okta", "kind": "okta", "stream": "system_log", "actor_id": "00u7"}
    addresses = ("zoe@acme.example", None, "other@acme.example")
    rows = [
        small_lakes.event(n, now - timedelta(minutes=n), random.Random(n))
        | ours
        | {"actor_email": text, "actor_name": None, "actor_id": "00u7" if n < 2 else "00u8"}
        for n, text in enumerate(addresses)
    ]
    small_lakes.append(tmp_path, rows)
    identity_table.derive(Lake(str(tmp_path)))
    page = app(tmp_path)
    day = (now - timedelta(minutes=1)).date()
    page.query_params["ev"] = f"{day}/okta:system_log:00000001"
    page.run()
    assert not page.exception
    assert "zoe@acme.example" in shown_text(page)
    page.button(key="only_actor").click().run()
    assert address(page)["f"] == ["actor:zoe@acme.example"]


@pytest.mark.browser
def test_the_events_around_one_can_be_opened(page: Page, live_lake: Path) -> None:
    uid = next(each for each in newest(live_lake) if around(live_lake, each) > 1)
    visit(page, f"/?ev={day_of(live_lake, uid)}/{quote(uid)}")
    shows(page, uid)
    settled(page)
    turn_to(page, "Around this event", grid(page, "around-"))
    page.get_by_role("radio", name="All", exact=True).click()
    total = re.compile(rf"^{around(live_lake, uid):,} events? within 30 minutes")
    expect(details(page).get_by_text(total)).to_be_visible()
    settled(page)
    mark = row_of(page, "around-", "▸")
    click_place(page, "around-", 1 if mark == 0 else 0, height=26, parameter="ev")
    assert opened(page) != uid
    settled(page)
    page.go_back()
    page.wait_for_url(lambda url: named(url) == uid)


def around(root: Path, uid: str) -> int:
    """Return the number of events within half an hour of that one."""
    events = pl.scan_delta(DeltaTable(root / "events"))
    time = events.filter(event_uid=uid).select("time").collect().item()
    margin = timedelta(minutes=30)
    near = pl.col("time").is_between(time - margin, time + margin, closed="left")
    count: int = events.filter(near).select(pl.len()).collect().item()
    return count
