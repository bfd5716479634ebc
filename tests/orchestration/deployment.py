"""Dagster as an operator runs it: a code server at host and port, and a daemon."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from pipelines.cli import config_file
from tests.waiting import free_ports

PROJECT = Path(__file__).parents[2]


class Deployment:
    """The processes of a deployment, whose files are in `folder`."""

    def __init__(self, folder, world, environment):
        (self.port,) = free_ports(1)
        self.config = folder / "auditlake.toml"
        keys = {"okta": world.running.settings()["okta"]}
        text = config_file.document(keys, world.lake.root, integrity=str(folder / "signed"))
        self.config.write_text(text)
        workspace = folder / "workspace.yaml"
        server = {"host": "127.0.0.1", "port": self.port, "location_name": "auditlake"}
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "AUDITLAKE_CONFIG": str(self.config),
            **environment,
        }
        self.folder, self.workspace = folder, workspace
        self.processes = []

    def start_code_server(self):
        return self.start(
            "dagster", "api", "grpc", "--host", "127.0.0.1", "--port", str(self.port),
            "-m", "pipelines.definitions", "--location-name", "auditlake",
        )  # fmt: skip

    def start_daemon(self):
        return self.start("dagster._daemon", "run", "-w", str(self.workspace))

    def start(self, module, *arguments):
        with (self.folder / f"{module}.txt").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def output(self):
        return "".join(path.read_text() for path in self.folder.glob("*.txt"))


def kill(process):
    """Kill a process with its children, of which the runs are some."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def deployed(folder, world, **environment):
    made = Deployment(folder, world, environment)
    try:
        yield made
    finally:
        for process in reversed(made.processes):
            kill(process)
