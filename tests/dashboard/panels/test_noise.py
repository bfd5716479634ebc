"""Noise per rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboard import findings
from dashboard.lake import Lake
from tests.dashboard import found

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_rules_are_listed_with_their_noise(findings_at: Open, copied: Path) -> None:
    uid = found.newest(copied, 3)
    lake = Lake(str(copied), {})
    lake.triage.add_all(NOW, findings.decision([uid], "a", "closed", reason="false positive"))
    rows = findings_at(copied, show="noise").dataframe[0].value
    assert rows["n"].tolist() == sorted(rows["n"], reverse=True)
    low = rows[rows["title"] == found.RULES[3][0]].iloc[0]
    assert (low["closed"], low["false"], low["week"]) == (1, 100, 8)
