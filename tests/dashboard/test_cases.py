"""A finding as it is opened."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cases, queries
from dashboard.lake import Lake
from dashboard.queries import Filter
from tests.dashboard import found

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def opened(root: Path, place: int = 0) -> cases.Case:
    lake = Lake(str(root), {})
    case = cases.opened(lake, lake.look(), found.newest(root, place))
    assert case is not None
    return case


def test_the_query_finds_the_events_and_no_others(judged: Path) -> None:
    case = opened(judged, 2)
    snapshot = Lake(str(judged), {}).look()
    assert snapshot is not None
    n = sum(n for _, n in snapshot.ask(queries.days, case.query))
    assert n == case.finding["count"] == case.events.height > 1


def test_the_command_names_the_events_unless_they_are_too_many(judged: Path) -> None:
    case = opened(judged)
    words = shlex.split(case.command)
    assert words[:3] == ["auditlake", "evidence", "--search"]
    assert words[3] == f'event_uid=("{case.finding["event_uids"][0]}")'
    uids = [f"okta:log:{n}" for n in range(41)]
    many = cases.Case(case.finding | {"event_uids": uids}, case.revisions, case.events)
    assert many.command == ""
    odd = cases.Case(case.finding | {"event_uids": ["a'; rm -rf /"]}, case.revisions, case.events)
    assert shlex.split(odd.command)[3] == 'event_uid=("a\'; rm -rf /")'


@pytest.mark.parametrize(
    ("entity", "kind"),
    [("ada@acme.example", "actor"), ("203.0.113.7", "source_ip"), ("2001:db8::1", "source_ip")],
)
def test_addresses_are_told_from_persons(entity: str, kind: str) -> None:
    assert cases.kind(entity) == kind


def test_a_finding_without_an_entity_leads_to_its_time_alone(judged: Path) -> None:
    case = opened(judged)
    nobody = cases.Case(case.finding | {"entity": None}, case.revisions, case.events)
    assert nobody.entity is None
    wanted = case.around(Filter(field="actor", value="ada"))
    assert wanted["f"] == ["actor:ada"]
    assert ".." in wanted["range"][0]


def test_there_is_no_case_without_a_finding(judged: Path, filled: Path) -> None:
    assert cases.opened(Lake(str(judged), {}), None, "none") is None
    assert cases.opened(Lake(str(filled), {}), None, "none") is None
