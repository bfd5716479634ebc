"""What is distributed: the requirements and their locks, the wheel, the source archive."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import defaultdict
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.cli import installed

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
PACKAGES, INCLUDED = WHEEL["packages"], WHEEL["force-include"]
LOCKED = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9, -]+\])?==([^ ;]+)", re.M)


def locked():
    found = defaultdict(set)
    for path in (PROJECT / "requirements").glob("*.txt"):
        for name, version in LOCKED.findall(path.read_text()):
            found[name].add(Version(version))
    return found


def required():
    project = PYPROJECT["project"]
    extras = (one for extra in project["optional-dependencies"].values() for one in extra)
    return [Requirement(one) for one in (*project["dependencies"], *extras)]


def test_every_dependency_has_a_floor_that_the_locked_versions_satisfy():
    floors = {one: {each.operator for each in one.specifier} & {">=", "=="} for one in required()}
    assert [str(one) for one, operators in floors.items() if not operators] == []
    versions = locked()
    assert [str(one) for one in floors if not versions[one.name]] == []
    assert [
        f"{one}: {version}"
        for one in floors
        for version in versions[one.name]
        if version not in one.specifier
    ] == []


def test_the_packages_are_in_the_wheel_completely(tmp_path):
    places = {**{name: name for name in PACKAGES}, **INCLUDED}
    expected = {
        f"{place}/{path.relative_to(PROJECT / name)}"
        for name, place in places.items()
        for path in (PROJECT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(installed.build("wheel", tmp_path)) as wheel:
        contents = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert contents == expected


def test_an_installed_program_has_its_rules(tmp_path):
    wheel = installed.build("wheel", tmp_path)
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    config = tmp_path / "auditlake.toml"
    config.write_text("[integrations]\n")
    found = subprocess.run(
        [sys.executable, "-m", "pipelines", "--config", config, "rules", "list"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    own = (path for path in (PROJECT / "rules").rglob("*.yml") if ".tests." not in path.name)
    ids = {yaml.safe_load(path.read_text())["id"] for path in own}
    assert {line.split()[0] for line in found.stdout.splitlines()[1:]} <= ids
    assert len(found.stdout.splitlines()) > 80


def test_the_source_archive_builds_the_same_bytes_elsewhere(tmp_path):
    at = {"SOURCE_DATE_EPOCH": "1700000000"}
    wheel = installed.build("wheel", tmp_path / "wheel", **at)
    source = installed.build("sdist", tmp_path / "source", **at)
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    (copy,) = (tmp_path / "elsewhere").iterdir()
    (copy / "PKG-INFO").unlink()  # only archives have it
    for path in copy.rglob("*"):
        if not path.is_symlink():
            # Another time, and the modes of another umask.
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1, 1))
    for target, built in (("wheel", wheel), ("sdist", source)):
        again = installed.build(target, tmp_path / f"again-{target}", copy, **at)
        assert again.name == built.name
        assert filecmp.cmp(again, built, shallow=False)
