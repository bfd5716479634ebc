"""The page about adding an integration is right: its files, put beside the others, are enough."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "adding-an-integration.md"
_FILE = re.compile(r"```\w+\n# (\S+)\n(.*?)```", re.DOTALL)
_NOT_NEEDED = shutil.ignore_patterns(".*", "__pycache__", "data", "test-artifacts")


def test_the_files_on_the_page_are_a_whole_integration(tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(PROJECT, copy, ignore=_NOT_NEEDED)
    files = _FILE.findall(PAGE.read_text())
    assert [Path(name).name for name, _ in files] == [
        "example.py", "example.csv", "example.py", "events.ndjson"
    ]  # fmt: skip
    for name, text in files:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(text)

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=copy,
            capture_output=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(copy), **environment},
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    run("pytest", "-q", "tests/mapping/test_golden.py", "-k", "example", UPDATE_GOLDEN="1")
    tested = run(
        "pytest",
        "-q",
        "tests/mapping/test_golden.py",
        "tests/promises/test_contract.py",
        "-k",
        "example",
    )
    assert re.search(r"\b\d+ passed", tested)
    assert "failed" not in tested
    assets = run("pipelines", "sandbox", "--settings")
    assert "[integrations.example]" in assets
