"""An opened finding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.dashboard import found
from tests.dashboard.shown import shown_text

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_a_finding_shows_its_events_rule_and_evidence(findings_at: Open, judged: Path) -> None:
    uid = found.newest(judged)
    shown = findings_at(judged, id=uid)
    text = shown_text(shown)
    for part in (
        *("auditlake", "Apache-2.0", "https://attack.mitre.org/techniques/T1098/003/"),
        *("provisional", "Nobody has looked after this finding yet.", "Matched fields"),
    ):
        assert part in text
    assert any("auditlake evidence --search 'event_uid=" in one.value for one in shown.code)
    recorded = found.rows(judged, "access")[-1]
    assert (recorded["what"], recorded["about"]) == ("opened", f"finding {uid}")
