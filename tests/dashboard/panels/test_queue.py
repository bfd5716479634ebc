"""The list of findings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboard import findings
from dashboard.lake import Lake
from tests.dashboard.shown import address, shown_text

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def listed(page: AppTest) -> list[str]:
    return [level[0] for level in page.dataframe[0].value["level"]]


def test_open_findings_are_listed_the_most_serious_first(findings_at: Open, judged: Path) -> None:
    shown = findings_at(judged, low="1")
    levels = listed(shown)
    assert len(levels) == 38
    assert levels == sorted(levels, key=findings.LEVELS.index)
    assert "Show 2 withdrawn or excepted" in [one.label for one in shown.toggle]
    shown.toggle(key="findings_hidden").set_value(True).run()
    assert len(listed(shown)) == 40
    states = set(shown.dataframe[0].value["state"])
    assert states == {"open", "withdrawn", "excepted"}


def test_filters_are_in_the_address(findings_at: Open, judged: Path) -> None:
    shown = findings_at(judged, level=["critical", "low"], range="3d")
    assert set(listed(shown)) == {"critical", "low"}
    shown.multiselect(key="findings_level").set_value(["low"]).run()
    assert address(shown)["level"] == ["low"]
    shown.text_input(key="findings_entity").set_value("nobody").run()
    assert "No open findings" in shown_text(shown)
    shown.button(key="findings_clear").click().run()
    assert address(shown) == {"show": ["open"]}


def test_findings_of_low_levels_are_counted_and_shown_on_request(
    findings_at: Open, judged: Path
) -> None:
    shown = findings_at(judged)
    before = listed(shown)
    assert set(before) == {"critical", "high", "medium"}
    switch = shown.toggle(key="findings_low")
    assert switch.label == f"Show {38 - len(before)} low and informational"
    switch.set_value(True).run()
    assert address(shown)["low"] == ["1"]
    assert len(listed(shown)) == 38
    # Whoever chooses levels gets those.
    chosen = findings_at(judged, level=["low"])
    assert set(listed(chosen)) == {"low"}
    assert "findings_low" not in [one.key for one in chosen.toggle]


def test_ticked_findings_are_taken_together(findings_at: Open, copied: Path) -> None:
    shown = findings_at(copied, level=["low"])
    key = "queue-" + shown.dataframe[0].proto.id.rpartition("queue-")[2]
    selection = {"rows": [0, 2], "columns": [], "cells": []}
    shown.session_state[key] = {"selection": selection}
    shown.run()
    assert "2 selected" in shown_text(shown)
    next(one for one in shown.button if one.label == "Take").click().run()
    taken = Lake(str(copied), {}).cases().filter(state="assigned")
    assert taken["level"].to_list() == ["low", "low"]
    assert shown.dataframe[0].value["state"].tolist()[:3] == ["assigned", "open", "assigned"]
