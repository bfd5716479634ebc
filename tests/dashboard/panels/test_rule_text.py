"""The rule of a finding."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.panels import rule_text
from tests.dashboard import found
from tests.dashboard.shown import shown_text
from tests.dashboard.small_lakes import HOSTILE

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_the_rule_is_shown_with_its_present_text(
    findings_at: Open, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = (
        f"title: Changed title\nid: {found.rule_id(0)}\ndescription: Why it matters.\n"
        "logsource: {product: okta}\ndetection: {a: {b: c}, condition: a}\n"
        "falsepositives: [Planned changes]\n"
    )
    (copied / "rules").mkdir()
    (copied / "rules" / "one.yml").write_text(rule)
    monkeypatch.setenv("AUDITLAKE_DETECTIONS__RULES", f'["{copied}/rules"]')
    shown = findings_at(copied, id=found.newest(copied))
    assert "Why it matters." in shown_text(shown)
    assert "Planned changes" in shown_text(shown)
    assert "The rule was changed since this finding" in shown_text(shown)
    assert rule.strip() in [one.value.strip() for one in shown.code]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://attack.mitre.org/techniques/T1098/", "attack.mitre.org"),
        ("http://attack.mitre.org/", ""),
        ("javascript:alert(1)", ""),
        ("https://attack.mitre.org@evil.example/", ""),
        ("https://evil.example:99/", ""),
        ("https://[", ""),
        ("https://b\u00fccher.example/", ""),
        ("https://evil.example/\n", ""),
        (HOSTILE, ""),
    ],
)
def test_only_plain_links_are_links(url: str, host: str) -> None:
    assert rule_text.host_of(url) == host
