"""The dashboard's own tables are append-only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from dashboard import access_log, findings
from dashboard.access_log import Seen
from dashboard.lake import Lake
from dashboard.sight import Sight

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_access_is_recorded_and_cannot_be_deleted(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path), {})
    lake.access.record(NOW, Seen(who="ada", what="opened", about="okta:1", events=1, version=3))
    lake.access.record(NOW + timedelta(hours=1), Seen(who="eve", what="refused", about=""))
    assert lake.access.newest(9)["who"].to_list() == ["eve", "ada"]
    with pytest.raises(DeltaError, match="append"):
        DeltaTable(tmp_path / "access").delete("who = 'ada'")


def test_the_newest_address_of_a_view_is_valid_and_views_can_be_removed(tmp_path: Path) -> None:
    views = Lake(str(tmp_path), {}).views
    for hour, (name, address) in enumerate([("b", "q=1"), ("a", "q=2"), ("b", "q=3"), ("a", "")]):
        views.add(NOW + timedelta(hours=hour), who="ada", name=name, address=address)
    assert access_log.saved(views.newest(99)) == [("b", "q=3")]


def test_a_limited_visitor_replaces_their_own_views_alone(tmp_path: Path) -> None:
    views = Lake(str(tmp_path), {}).views
    limited = Lake(str(tmp_path), {}, sight=Sight(integrations=frozenset({"okta"}))).views
    assert not limited.is_of_another("a", "eve")
    views.add(NOW, who="ada", name="a", address="q=1")
    assert limited.is_of_another("a", "eve")
    assert not limited.is_of_another("a", "ada")
    assert not views.is_of_another("a", "eve")
    views.add(NOW + timedelta(hours=1), who="ada", name="a", address="")
    assert not limited.is_of_another("a", "eve")


def test_the_table_is_created_by_its_first_row(tmp_path: Path) -> None:
    assert Lake(str(tmp_path), {}).access.newest(9).is_empty()
    assert not (tmp_path / "access").exists()


def test_a_read_only_lake_keeps_triage_aside_and_makes_no_exceptions(copied: Path) -> None:
    aside = copied.parent / "aside"
    reading = Lake(str(copied), {}, str(aside))
    uid = reading.cases()["finding_uid"][0]
    reading.triage.add_all(NOW, findings.decision([uid], "ada", "assigned"))
    assert reading.cases().filter(finding_uid=uid)["assignee"].to_list() == ["ada"]
    assert (aside / "triage").exists()
    assert not (copied / "triage").exists()
    assert reading.exceptions.elsewhere
    assert not Lake(str(copied), {}).exceptions.elsewhere
