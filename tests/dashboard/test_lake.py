"""Reading the lake: pinned versions, absent and damaged tables, raw records."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from dashboard import lake, open_lake, queries
from dashboard.lake import Lake
from dashboard.queries import Query
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUERY = Query(since=NOW - timedelta(days=2), until=NOW + timedelta(days=1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_lakes.append(tmp_path, small_lakes.events(50, end=NOW, days=1))
    return tmp_path


def test_a_lake_without_events_is_not_an_error(tmp_path: Path) -> None:
    assert Lake(str(tmp_path / "absent"), {}).look() is None


def test_a_snapshot_is_unchanged_while_the_lake_grows(root: Path) -> None:
    opened = Lake(str(root), {})
    before = opened.look()
    small_lakes.append(root, [small_lakes.hostile(9000, NOW)])
    after = opened.look()
    assert before and after
    assert (before.rows, after.rows) == (50, 51)
    assert before.ask(queries.summary, QUERY).events == 50
    assert after.ask(queries.summary, QUERY).events == 51


def test_an_unchanged_lake_is_not_read_again(root: Path) -> None:
    opened = Lake(str(root), {})
    first, second = opened.look(), opened.look()
    assert first and first is second
    assert first.ask(queries.days, QUERY) is first.ask(queries.days, QUERY)


def test_a_lake_that_was_removed_or_replaced_is_not_shown_from_memory(root: Path) -> None:
    opened = Lake(str(root), {})
    first = opened.look()
    assert first and opened.seen == first.version == 0
    shutil.rmtree(root / "events")
    assert opened.look() is None
    assert opened.seen == 0
    small_lakes.append(root, small_lakes.events(3, end=NOW, days=1))
    second = opened.look()
    assert second and (second.version, second.rows) == (0, 3)
    shutil.rmtree(root / "events")
    small_lakes.append(root, small_lakes.events(4, end=NOW, days=1))
    third = opened.look()
    assert third and (third.version, third.rows) == (0, 4)


def test_a_damaged_table_is_reported_and_reopened(root: Path) -> None:
    log = next((root / "events" / "_delta_log").glob("*.json"))
    whole = log.read_bytes()
    log.write_bytes(b"not a log")
    opened = Lake(str(root), {})
    with pytest.raises(lake.UNREADABLE):
        opened.look()
    log.write_bytes(whole)
    opened.forget()
    assert opened.look()


def test_a_raw_record_has_its_arrival_and_hash(root: Path) -> None:
    event = small_lakes.events(50, end=NOW, days=1)[-1]
    day = event["time"].date()
    record = Lake(str(root), {}).record(event["integration"], event["stream"], day, 49)
    assert record
    assert record.via == "poll"
    assert record.intact()
    assert '"uuid": "00000049"' in record.raw


@pytest.mark.parametrize("part", ["..", "../x", "a/b", "", ".hidden", "a\\b"])
def test_a_name_in_an_event_cannot_leave_the_raw_folder(root: Path, part: str) -> None:
    with pytest.raises(FileNotFoundError):
        Lake(str(root), {}).record(part, "system_log", date(2026, 11, 23), 0)


def test_the_lake_is_the_configured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "auditlake.toml"
    file.write_text('[lake]\nroot = "/somewhere/else"\n')
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(file))
    monkeypatch.delenv("AUDITLAKE_LAKE__ROOT", raising=False)
    assert open_lake.unguarded().root == "/somewhere/else"
    file.unlink()
    assert open_lake.unguarded().root == "data"
