"""No credential shows up where somebody may read it: tables, logs, output, errors, reprs, URLs."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.cli import config_file
from pipelines.errors import AuditlakeError
from sandbox.faults import Fault

KINDS = sorted(registry.kinds())
PROJECT = str(Path(__file__).parents[2])
_LONG_LINE = re.compile(r"[A-Za-z0-9+/=_.~-]{16,}")


def secrets(source):
    """Every secret of a source: whole where short, else its long lines (keys have several)."""
    values = [
        value.get_secret_value()
        for value in dict(source.settings).values()
        if isinstance(value, SecretStr)
    ]
    # Of a service account's file only the key is secret.
    values = [json.loads(v)["private_key"] if v.startswith("{") else v for v in values]
    parts = {part for value in values for part in _LONG_LINE.findall(value)} | set(values)
    return {part for part in parts if not part.startswith("-----")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lake_and_the_logs_hold_no_secret(still_world, caplog, capfd, kind):
    caplog.set_level(logging.DEBUG)
    source = still_world.source(kind)
    hidden = secrets(source)
    assert hidden
    still_world.disorder(Fault(kind=kind, fault="status", at=[1, 2]))
    reports = still_world.poll(kind)
    shown = [repr(source), repr(source.settings), repr(reports), caplog.text, *capfd.readouterr()]
    shown += [str(request) for request in still_world.running.sandbox.requests(kind)]
    for path in Path(still_world.lake.root).rglob("*"):
        if path.is_file():
            shown.append(path.read_bytes().decode("latin-1"))
    found = {secret[:4] for secret in hidden for text in shown if secret in text}
    assert found == set()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_holds_no_secret(still_world, kind):
    keys = still_world.running.settings()[kind]
    wrong = {
        key: "s3cr3t-" + "x" * 30 if key in ("api_token", "api_key", "client_secret") else value
        for key, value in keys.items()
    }
    try:
        source = registry.source(kind, wrong)
        with pytest.raises(AuditlakeError) as error:
            registry.source(kind, {**wrong, "no_such_key": "s3cr3t-value"})
        assert "s3cr3t" not in str(error.value)
        shown = repr(source) + repr(still_world.poll(kind))
    except AuditlakeError as error:
        shown = str(error)
    assert "s3cr3t" not in shown


def test_the_command_line_shows_no_secret(still_world, tmp_path):
    settings = still_world.running.settings()
    (tmp_path / "auditlake.toml").write_text(config_file.document(settings))
    hidden = {s for kind in KINDS for s in secrets(registry.source(kind, settings[kind]))}
    commands = (["doctor"], ["poll", "--json"], ["status", "--json"], ["coverage"], ["poll", "x"])
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *arguments],
            cwd=tmp_path,
            capture_output=True,
            timeout=120,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PROJECT, "HOME": str(tmp_path)},
            check=False,
        )
        told = (done.stdout + done.stderr).decode()
        assert {secret[:4] for secret in hidden if secret in told} == set()
