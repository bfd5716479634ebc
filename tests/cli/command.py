"""The command `auditlake`, in a process of its own or in this one."""

import subprocess
import sys

from click.testing import CliRunner

from pipelines.cli import config_file
from pipelines.cli.main import main
from sandbox.server import Options, running

PROJECT = __file__.rpartition("/tests/")[0]


def auditlake(cwd, *arguments, stdin=b"", **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PROJECT, "HOME": str(cwd), **environment},
        check=False,
    )


def polled(folder, days):
    """Write a configuration with Okta into the folder, and poll a lake of so many days there."""
    with running(Options(days=days, per_day=60, rate=0)) as server:
        okta = {"okta": server.settings()["okta"]}
        text = config_file.document(okta, f"{folder}/data", integrity=f"{folder}/state")
        (folder / "auditlake.toml").write_text(text)
        assert run(folder, "poll").exit_code == 0
    return folder


def files(folder):
    """Return the files of that lake and when they were changed."""
    return {p: p.stat().st_mtime_ns for p in (folder / "data").rglob("*") if p.is_file()}


def configure(world, path, **keys):
    okta = {**world.running.settings()["okta"], **keys}
    (path / "auditlake.toml").write_text(config_file.document({"okta": okta}))
    return okta


def run(folder, *arguments):
    config = str(folder / "auditlake.toml")
    return CliRunner().invoke(main, ["--config", config, *arguments], catch_exceptions=False)
