"""data/README.md lies in the lake, explains all of it, and no command stumbles over it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.server import Options, running

PAGE = Path(__file__).parents[2] / "data/README.md"


def run(config: Path, *words: str) -> str:
    command = [sys.executable, "-m", "pipelines", "--config", str(config), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_explains_every_folder_and_disturbs_no_command(tmp_path):
    lake, config = tmp_path / "data", tmp_path / "auditlake.toml"
    lake.mkdir()
    shutil.copy(PAGE, lake)
    with running(Options(days=2, per_day=50, rate=0)) as server:
        keys = {"integrations.okta": server.settings()["okta"], "lake": {"root": str(lake)}}
        keys["integrity"] = {"folder": str(tmp_path / "state")}
        sections = (
            [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
            for name, section in keys.items()
        )
        config.write_text("\n".join(line for section in sections for line in section))
        run(config, "doctor")
        run(config, "poll")
    run(config, "maintain")
    assert "raw/okta/system_log: ok" in run(config, "verify", "--full")
    assert "okta system_log" in run(config, "status")
    folders = {path.name for path in lake.iterdir() if path.is_dir()}
    explained = set(re.findall(r"`([a-z_]+)[`/]", PAGE.read_text()))
    assert {"raw", "events", "coverage", "integrity"} <= folders
    assert folders <= explained
    assert (lake / "README.md").read_bytes() == PAGE.read_bytes()
