"""The commands in docs/integrity.md work as printed, and its settings are valid."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import config_file
from pipelines.cli.main import main
from pipelines.integrity import note
from pipelines.integrity.verifier import audit, proofs
from pipelines.settings import Settings, validated
from sandbox.server import Options, running

PAGE = (Path(__file__).parents[2] / "docs/integrity.md").read_text()
LOG = "data/integrity/okta/system_log"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def commands():
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """A folder with a configuration, a lake filled by one round, and the auditor's files."""
    folder = tmp_path_factory.mktemp("deployment")
    with running(Options(days=3, per_day=60, rate=0)) as server:
        okta = {"okta": server.settings()["okta"]}
        text = config_file.document(okta, f"{folder}/data", integrity=f"{folder}/state")
        (folder / "auditlake.toml").write_text(text)
        run(folder, ["auditlake", "poll", "okta"])
    (folder / "kept").mkdir()
    shutil.copy(folder / LOG / "checkpoint", folder / "kept/okta.system_log")
    for program in (audit, proofs):
        shutil.copy(program.__file__, folder)
    return folder


def run(folder, words):
    """Run a command line in `folder`; return (exit code, output)."""
    if words[0] == "auditlake":
        done = CliRunner().invoke(main, ["--config", str(folder / "auditlake.toml"), *words[1:]])
        return done.exit_code, done.output
    ran = subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def test_the_commands_work_in_the_documented_order(deployment, monkeypatch):
    monkeypatch.chdir(deployment)
    vkey = run(deployment, ["auditlake", "keys"])[1].strip()
    assert len(commands()) > 12
    for line in commands():
        words = [vkey if word == "KEY" else word for word in shlex.split(line, comments=True)]
        code, output = run(deployment, words)
        assert code == 0, f"{line}\n{output}"
        assert output.strip(), line
        assert "note:" not in output, f"{line}\n{output}"


def test_every_integrity_command_is_documented():
    shown = {shlex.split(line)[1] for line in commands() if line.startswith("auditlake ")}
    proofs = {"verify", "prove", "verify-proof", "evidence", "entries", "certify"}
    assert shown == {*proofs, "retain", "keys"}


def test_the_documented_settings_are_valid(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTARY_TOKEN", "t")
    (tmp_path / "audit.key").write_text(note.new_key("vault").secret)
    (text,) = blocks("toml")
    document = tomllib.loads(text.replace("/run/secrets/audit.key", str(tmp_path / "audit.key")))
    chosen = validated(Settings, document, "docs/integrity.md").integrity
    assert len(chosen.anchors) == 4
    assert chosen.name == "audit.example.com"
