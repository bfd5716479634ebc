"""auditlake installed from its wheel, in an environment that borrows this one's dependencies."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def build(target: str, folder: Path, project: Path = PROJECT, **environment: str) -> Path:
    """Return the path of the built distribution; `target` is wheel or sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=project, env={**os.environ, **environment}, check=True)
    (built,) = folder.iterdir()
    return built


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment, and return the folder of its programs."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    subprocess.run([*command, str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched last, and its own .pth files, such as that of an editable
    # install, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent
