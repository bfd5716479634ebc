"""The app's script, where its pages cannot be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dashboard.shown import App, shown_text


def test_an_invalid_configuration_is_reported(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = app(tmp_path)
    (tmp_path / "faulty.toml").write_text("[lake]\nrot = 1\n")
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "faulty.toml"))
    page.run()
    assert not page.exception
    assert "lake.rot: unknown key" in shown_text(page)
