"""The configured rules are read again after a change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import rule_files
from tests.dashboard import found

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


RULE = (
    "title: {title}\nid: {id}\nlogsource: {{product: okta, service: okta}}\n"
    "detection: {{a: {{eventType: b}}, condition: a}}\nlevel: low\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("AUDITLAKE_DETECTIONS__RULES", f'["{tmp_path}"]')
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "One")
    return tmp_path


def write(folder: Path, title: str, place: int = 0) -> None:
    text = RULE.format(title=title, id=found.rule_id(place))
    (folder / f"rule{place}.yml").write_text(text)


def test_rules_are_read_again_only_after_a_change(folder: Path) -> None:
    first = rule_files.rulebook()
    assert rule_files.rulebook() is first
    write(folder, "Another")
    changed = rule_files.rule(found.rule_id(0))
    assert changed is not None
    assert changed.title == "Another"
    assert rule_files.rule("none") is None


def test_disabled_rules_do_not_run(folder: Path) -> None:
    write(folder, "Two", 1)
    assert len(rule_files.running()) == 2
    (folder / "rules.toml").write_text(f'[rules."{found.rule_id(1)}"]\nenabled = false\n')
    assert [rule.title for rule in rule_files.running()] == ["One"]


def test_a_finding_is_shown_even_if_the_overlay_is_not_valid(folder: Path) -> None:
    (folder / "rules.toml").write_text("enabled = [")
    assert rule_files.rule(found.rule_id(0)) is None
