"""`auditlake up` in a process of its own, as a user runs it."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import free_ports

PROJECT = str(Path(__file__).parents[2])
FROM_SOURCE = (sys.executable, "-m", "pipelines")


@contextmanager
def started(tmp_path, program=FROM_SOURCE, **environment):
    names = ("DAGSTER", "DASHBOARD", "SANDBOX", "WEBHOOKS")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    settings = {f"AUDITLAKE_{name}__PORT": str(port) for name, port in ports.items()}
    out = tmp_path / "out.txt"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*program, "up"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": PROJECT, **settings, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, ports, out
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def children(tmp_path):
    """Processes that `up` in this folder started and that still run."""
    mark = f"AUDITLAKE_CONFIG={tmp_path}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def pid_of(tmp_path, word):
    mark = f"AUDITLAKE_CONFIG={tmp_path}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            family = os.getpgid(int(folder.name)) == int(folder.name)
            mine = family and mark in (folder / "environ").read_bytes()
            if mine and word in (folder / "cmdline").read_bytes():
                return int(folder.name)
        except OSError:
            continue
    return None
