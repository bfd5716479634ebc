"""A lake that cannot be written is verified, searched, exported and shown like any other."""

import ctypes
import os
import subprocess
import sys

import pytest

from pipelines.cli import config_file
from tests.cli.command import PROJECT
from tests.integrity.worlds import Signed

# One process, since each would import everything again.
PROGRAM = """
import os, sys
from click.testing import CliRunner
from streamlit import config
from streamlit.testing.v1 import AppTest
from pipelines.cli.main import main

assert not os.access("lake", os.W_OK)
for words in (
    "verify --full", "status", "coverage", "search u3 --limit 2", "prove raw/okta/system_log/17",
    "export --format csv --out out.csv", "evidence --search u3 --since 2020-01-01 --out p.zip",
):
    done = CliRunner().invoke(main, words.split(), catch_exceptions=False)
    print(words.split()[0], done.exit_code, done.output[:60].split("\\n")[0])
config.set_option("server.address", "127.0.0.1")
page = AppTest.from_file(sys.argv[1] + "/dashboard/navigation.py", default_timeout=300)
page.query_params["range"] = "2026-03-01T00:00:00Z..2026-03-09T00:00:00Z"
page.run()
print("shown", len(page.dataframe[-1].value), bool(page.exception))
page = AppTest.from_string("from dashboard.screens import access\\naccess.show()").run()
print("recorded", page.dataframe[0].value["what"].to_list())
"""
_PR_CAPBSET_DROP, _OVERRIDES = 24, (1, 2, 3)


def without_privileges():
    """Make root subject to the modes of files, in a process that is about to be started."""
    if os.geteuid() == 0:
        for capability in _OVERRIDES:
            ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.fixture
def read_only(tmp_path):
    signed = Signed(tmp_path).fill(200)
    text = config_file.document({}, "lake", integrity=str(tmp_path / "state"))
    (tmp_path / "auditlake.toml").write_text(text)
    folders = [signed.folder / "lake", *(signed.folder / "lake").rglob("*")]
    for path in folders:
        path.chmod(path.stat().st_mode & ~0o222)
    yield tmp_path
    for path in folders:
        path.chmod(path.stat().st_mode | 0o200)


def test_a_read_only_lake_is_verified_searched_exported_and_shown(read_only):
    before = sorted((read_only / "lake").rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, PROJECT],
        cwd=read_only,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PROJECT, "HOME": str(read_only)},
        preexec_fn=without_privileges,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["verify"].startswith("0 raw/okta/system_log: ok, 200 signed")
    for command in ("status", "coverage", "search", "prove", "export", "evidence"):
        assert lines[command].startswith("0 "), lines[command]
    assert lines["shown"] == "200 False"
    assert lines["recorded"] == "['searched']"
    assert sorted((read_only / "lake").rglob("*")) == before
    assert (read_only / "state" / "access").stat().st_mode & 0o777 == 0o700
