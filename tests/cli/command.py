"""The command `auditlake`, in a process of its own or in this one."""

import subprocess
import sys

from click.testing import CliRunner

from pipelines.cli import config_file
from pipelines.cli.main import main

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


def configure(world, path, **keys):
    okta = {**world.running.settings()["okta"], **keys}
    (path / "auditlake.toml").write_text(config_file.document({"okta": okta}))
    return okta


def run(folder, *arguments):
    config = str(folder / "auditlake.toml")
    return CliRunner().invoke(main, ["--config", config, *arguments], catch_exceptions=False)
