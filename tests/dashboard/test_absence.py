"""A lake without events: new, emptied or gone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable

from dashboard import absence
from pipelines.clock import utc_now
from pipelines.integrity import last_signed
from pipelines.integrity.note import Head
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from tests.dashboard import small_lakes
from tests.dashboard.shown import App, shown_text


@pytest.mark.parametrize(
    ("seen", "records", "title"),
    [
        (None, {}, None),
        (None, {"okta/log": 0}, None),
        (None, {"okta/log": 7}, "No events yet"),
        (None, {"okta/log": None, "zoom/log": 0}, "The lake has vanished"),
        (7, {}, "The lake has vanished"),
        (7, {"okta/log": 7}, "The table of events has vanished"),
    ],
)
def test_missing_events_are_explained(
    seen: int | None, records: Mapping[str, int | None], title: str | None
) -> None:
    found = absence.explained(seen, records)
    assert (found and found.title) == title
    assert found is None or "`auditlake" in found.lines[-1]


def test_a_lake_that_vanishes_is_no_new_lake(app: App, tmp_path: Path) -> None:
    root = tmp_path / "lake"
    small_lakes.append(root, small_lakes.events(20, end=datetime.now(UTC)))
    page = app(root).run()
    shutil.rmtree(root / "events")
    assert "20 records are left in the raw tables" in shown_text(page.run())
    shutil.rmtree(root)
    page.run()
    assert not page.exception
    assert "The lake has vanished" in shown_text(page)
    assert "Version 0 of the events was shown here" in shown_text(page)
    small_lakes.append(root, small_lakes.events(30, end=datetime.now(UTC)))
    assert "<b>30</b> events" in shown_text(page.run())


def test_emptied_events_are_no_new_lake(app: App, tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(20, end=datetime.now(UTC)))
    DeltaTable(tmp_path / "events").delete()
    page = app(tmp_path).run()
    assert "20 records without events" in shown_text(page)


def test_a_lake_whose_signed_tables_are_gone_is_no_new_lake(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLAKE_INTEGRITY__FOLDER", str(tmp_path / "state"))
    place = last_signed.folder(
        Lake(str(tmp_path / "lake")), IntegritySettings(folder=tmp_path / "state")
    )
    origin = f"auditlake/okta/system_log/{utc_now():%s}"
    (place / "signed").mkdir(parents=True)
    last_signed.remember(place, "raw/okta/system_log", Head(origin=origin, size=7, root=bytes(32)))
    page = app(tmp_path / "lake").run()
    assert "1 raw table that was signed on this machine" in shown_text(page)
