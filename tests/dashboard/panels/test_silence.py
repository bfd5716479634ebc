"""Exceptions made from a finding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboard import silences
from dashboard.lake import Lake
from tests.dashboard import found
from tests.dashboard.shown import shown_text

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_an_exception_is_made_from_a_finding_and_revoked(findings_at: Open, copied: Path) -> None:
    uid = found.newest(copied, 1)
    shown = findings_at(copied, id=uid)
    key = f"silence_{uid[:16]}"
    shown.session_state[key] = True
    shown.run()
    assert not shown.exception
    before = Lake(str(copied), {}).cases().filter(rule_id=found.rule_id(1))
    entity = before.filter(finding_uid=uid)["entity"][0]
    same = before.filter(entity=entity).height
    assert f"**{same} of {before.filter(status='found').height}** findings" in shown_text(shown)
    shown.button(key=f"{key}_save").click().run()
    assert not (copied / "exceptions").exists()
    shown.session_state[key] = True
    shown.text_input(key=f"{key}_reason").set_value("Change 4711").run()
    shown.button(key=f"{key}_save").click().run()
    (made,) = found.rows(copied, "exceptions")
    assert made["rule_id"] == found.rule_id(1)
    assert made["fields"] == [{"field": "entity", "value": entity}]
    assert timedelta() < made["expires"] - NOW <= silences.LONGEST
    shown = findings_at(copied, show="exceptions")
    assert f"entity = {entity}" in shown_text(shown)
    shown.button(key=f"revoke_{made['exception'][:16]}").click().run()
    assert "None is in force" in shown_text(shown)
    assert len(found.rows(copied, "exceptions")) == 2
