"""Decisions about findings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from deltalake import DeltaTable
from streamlit.testing.v1 import AppTest

from dashboard import findings
from dashboard.lake import Lake
from tests.dashboard import found
from tests.dashboard.shown import shown_text
from tests.dashboard.small_lakes import HOSTILE

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_a_finding_is_taken_closed_and_reopened(findings_at: Open, copied: Path) -> None:
    uid = found.newest(copied)
    shown = findings_at(copied, id=uid)
    key = next(one.key for one in shown.button if one.label == "Take").removeprefix("take_")
    shown.button(key=f"take_{key}").click().run()
    who = found.rows(copied, "triage")[0]["who"]
    assert f"assigned to {who}" in shown_text(shown)
    shown.radio(key=f"reason_{key}").set_value("false positive")
    shown.text_area(key=f"note_{key}").set_value(HOSTILE)
    next(one for one in shown.button if one.label == "Close finding").click().run()
    assert "closed · false positive" in shown_text(shown)
    shown.button(key=f"reopen_{key}").click().run()
    done = [(row["state"], row["reason"], row["note"]) for row in found.rows(copied, "triage")]
    assert done == [
        ("assigned", None, None),
        ("closed", "false positive", HOSTILE),
        ("open", None, None),
    ]
    history = next(one.value for one in shown.dataframe if "who" in one.value)
    assert history["state"].tolist() == ["open", "closed: false positive", "assigned"]


def test_several_findings_are_decided_about_at_once(copied: Path) -> None:
    opened = Lake(str(copied), {})
    uids = opened.cases()["finding_uid"].to_list()[:5]
    opened.triage.add_all(NOW, findings.decision(uids, "ada", "closed", reason="duplicate"))
    assert opened.cases().filter(state="closed").height == 5
    assert DeltaTable(copied / "triage").version() == 1
