"""Coverage of ATT&CK."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamlit.testing.v1 import AppTest

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_coverage_is_of_one_vendor(findings_at: Open, judged: Path) -> None:
    shown = findings_at(judged, show="coverage")
    every = len(shown.dataframe[0].value)
    shown.segmented_control(key="technique_vendor").set_value("Opsgenie").run()
    assert not shown.exception
    assert 0 < len(shown.dataframe[0].value) < every
    reasons = set(shown.dataframe[1].value["reason"])
    assert "covered for other vendors only" in reasons
