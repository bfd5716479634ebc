"""The server that serves the app."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.dashboard.conftest import APP, free_port


def test_it_does_not_listen_beyond_loopback_without_sign_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.headless=true"]
    options = ["--server.address=0.0.0.0", f"--server.port={free_port()}"]
    ended = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1
    assert "without sign-in: set dashboard.host" in ended.stderr
