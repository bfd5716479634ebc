"""The deployments of docs/operations.md work when a newcomer types what the page says.

Each machine is a home folder. `$EDITOR` writes what an operator would, `scp` copies from the first
machine, and the dependencies of this environment are borrowed in place of installing the lock. The
quick form is one machine, which polls once instead of starting servers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.cli import config_file
from sandbox.server import Options, Running
from sandbox.server import running as sandbox_running
from tests.objects import s3
from tests.tiers import FULL
from tests.waiting import free_ports, responds, until

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "operations.md").read_text()
LOCK = "pip install --require-hashes -r requirements/runtime.txt"
BORROWED = (
    f"echo {sysconfig.get_path('purelib')} > $(echo {{}}/lib/python*/site-packages)/borrowed.pth"
)
PIP = '#!/bin/sh\nexec python -m pip "$@"\n'
EDITOR = '#!/bin/sh\nexec cp "$HOME/edits/$(basename "$1")" "$1"\n'
SCP = """#!/bin/sh
for last; do :; done
while [ "$#" -gt 1 ]; do cp "$FIRST/${1#first:}" "$last"; shift; done
"""


def blocks(section: str, language: str = "sh") -> list[str]:
    """Return the code blocks of a section, in order."""
    text = re.split(f"^## {section}$", PAGE, flags=re.M)[1].split("\n## ")[0]
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, flags=re.M | re.S)
    return [textwrap.dedent(block) for _, block in found]


class Machine:
    """A user's home folder, and a shell that remembers its folder and its variables."""

    def __init__(self, home: Path, programs: Path, **variables: str) -> None:
        self.home, self.folder = home, PROJECT
        (home / "edits").mkdir(parents=True)
        self.variables = {
            "HOME": str(home),
            "PATH": f"{programs}:/usr/bin:/bin",
            "EDITOR": "edit",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            **variables,
        }

    def type(self, block: str) -> str:
        """Run the lines of a block, all of which have to succeed, and return all they print."""
        left = self.home / "left"
        ending = f"\npwd > {left}.folder; env -0 > {left}.variables"
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", block + ending],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        self.folder = Path(Path(f"{left}.folder").read_text().strip())
        pairs = Path(f"{left}.variables").read_text().split("\0")[:-1]
        self.variables = dict(pair.split("=", 1) for pair in pairs)
        return done.stdout

    @contextmanager
    def serving(self, block: str) -> Iterator[Path]:
        """Run each line of a block in the background, and yield the file of their output."""
        out = self.home / "output.txt"
        started = []
        for line in block.strip().splitlines():
            with out.open("ab") as file:
                process = subprocess.Popen(
                    ["/bin/bash", "-c", f"exec {line.replace('~', str(self.home))}"],
                    cwd=self.folder,
                    env=self.variables,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            started.append(process)
        try:
            yield out
        finally:
            for process in started:
                process.send_signal(signal.SIGINT)
            for process in started:
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def ports() -> dict[str, str]:
    """Return variables that give each server a free port."""
    names = ("DAGSTER__PORT", "DASHBOARD__PORT", "WEBHOOKS__PORT")
    free = map(str, free_ports(len(names)))
    return {f"AUDITLAKE_{name}": port for name, port in zip(names, free, strict=True)}


@pytest.fixture(scope="module")
def vendor():
    with sandbox_running(Options(days=1, per_day=20, rate=0)) as found:
        yield found


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    for name, text in (("edit", EDITOR), ("scp", SCP), ("pip", PIP)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory, programs):
    """A machine on which the program was installed, by the first section of the page."""
    machine = Machine(tmp_path_factory.mktemp("first"), programs, **ports())
    (install,) = blocks("Install the program")
    assert LOCK in install
    install = install.replace(LOCK, BORROWED.format("~/auditlake/environment"))
    # Of the borrowed packages, pip is one, so that another need not be installed.
    assert "0.1.0" in machine.type(install.replace("-m venv", "-m venv --without-pip"))
    return machine


@pytest.fixture
def second(tmp_path, first, programs):
    """A machine with the same program, and ports of its own."""
    machine = Machine(tmp_path, programs, **ports(), FIRST=str(first.home))
    (machine.home / "auditlake").mkdir()
    program = first.home / "auditlake" / "environment"
    (machine.home / "auditlake" / "environment").symlink_to(program)
    machine.type(f"PATH={program}/bin:$PATH")
    return machine


def configure(machine: Machine, vendor: Running, lake: str) -> None:
    """Write the files into which the operator turns those that the page opens in an editor."""
    okta = dict(vendor.settings()["okta"])
    (machine.home / "edits" / "okta.token").write_text(f"{okta['api_token']}\n")
    okta |= {"api_token": {"file": "~/auditlake/okta.token"}, "streams": ["system_log"]}
    _, _, integrations = config_file.document({"okta": okta}).partition("\n\n")
    (machine.home / "edits" / "auditlake.toml").write_text(f"{lake}\n{integrations}")


def configure_here(machine: Machine, vendor: Running) -> None:
    configure(machine, vendor, f'[lake]\nroot = "{machine.home}/auditlake/data"')


def up_to_date(machine: Machine) -> bool:
    return "up to date" in machine.type("auditlake status")


def test_one_machine(first, vendor):
    configuration, server, look, keep = blocks("One machine")
    configure_here(first, vendor)
    assert "FAIL" not in first.type(configuration)
    with first.serving(server if FULL else "auditlake poll") as output:
        until(lambda: up_to_date(first), output)
        assert "raw/okta/system_log: ok" in first.type(look)
        first.type(keep)
    assert (first.home / "auditlake" / "keys.tar.gz").exists()


@pytest.mark.skipif(not FULL, reason="minutes, since a lease has to end: AUDITLAKE_FULL=1")
def test_two_machines_on_an_object_store(first, second, vendor):
    edit, start, join, _ = blocks("Two machines on an object store")
    (lake,) = blocks("Two machines on an object store", "toml")
    with s3.running() as store:
        variables = f"aws_endpoint_url = '{store.url}'\naws_allow_http = 'true'\n[integrity]"
        lake = lake.replace("eu-central-1", "us-east-1")
        configure(first, vendor, lake.replace("[integrity]", variables))
        first.type(edit)
        # It is there already from the first deployment.
        (first.home / "auditlake" / "okta.token").write_bytes(
            (first.home / "edits" / "okta.token").read_bytes()
        )
        assert "new of" in first.type(start)
        assert "raw/okta/system_log: ok" in second.type(join)
        assert "another machine polls with this credential" in second.type("auditlake poll")
        # Nothing polls on the first machine any more.
        record = {"uuid": "after-the-first-machine", "eventType": "user.session.start"}
        record |= {"published": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"}
        vendor.sandbox.append("okta", "system_log", [json.dumps(record).encode()])
        until(lambda: "1 new of" in second.type("auditlake poll"), "the second machine polls")
        assert "raw/okta/system_log: ok" in second.type("auditlake verify")


DEFINITIONS = """import dagster as dg

@dg.asset
def theirs() -> None:
    pass

defs = dg.Definitions(assets=[theirs])
"""
LOCATIONS = """{ workspaceOrError { ... on Workspace {
  locationEntries { name locationOrLoadError { __typename } } } } }"""
RUNS = "{ runsOrError { ... on Runs { results { jobName status } } } }"


def query(port: int, text: str) -> Any:
    sent = httpx.post(f"http://127.0.0.1:{port}/graphql", json={"query": text}, timeout=60)
    return next(iter(sent.json()["data"].values()))


@pytest.mark.skipif(not FULL, reason="a Dagster with two code locations: AUDITLAKE_FULL=1")
def test_in_a_dagster_that_one_has(second, vendor):
    validate, servers = blocks("In a Dagster that you have")
    (workspace,) = blocks("In a Dagster that you have", "yaml")
    dagster = second.home / "dagster"
    (dagster / "yours").mkdir(parents=True)
    (dagster / "yours" / "__init__.py").touch()
    (dagster / "yours" / "definitions.py").write_text(DEFINITIONS)
    (dagster / "workspace.yaml").write_text(workspace.replace("/home/you", str(second.home)))
    venv.create(dagster / "environment", symlinks=True)
    second.type(BORROWED.format(dagster / "environment"))
    for name in ("dagster", "dagster-daemon"):
        installed = (Path(sys.executable).parent / name).read_text().split("\n", 1)[1]
        program = dagster / "environment" / "bin" / name
        program.write_text(f"#!{dagster}/environment/bin/python\n{installed}")
        program.chmod(0o755)
    configure_here(second, vendor)
    second.type(blocks("One machine")[0])
    second.type(validate)
    (port,) = free_ports(1)
    second.variables["DAGSTER_WEBSERVER_PORT"] = str(port)
    with second.serving(servers) as output:
        until(lambda: responds(port), output)
        locations = query(port, LOCATIONS)["locationEntries"]
        loaded = {each["name"]: each["locationOrLoadError"]["__typename"] for each in locations}
        assert loaded == dict.fromkeys(("auditlake", "yours.definitions"), "RepositoryLocation")
        until(lambda: up_to_date(second), output)
        succeeded = {"jobName": "okta", "status": "SUCCESS"}
        until(lambda: succeeded in query(port, RUNS)["results"], output)
    assert (second.home / "auditlake" / "data" / "events").is_dir()
