"""Container, composition, systemd units and chart: their commands exist, and little is open."""

import configparser
import re
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import click
import pytest
import yaml
from dagster._cli import create_dagster_cli
from dagster._core.instance.ref import InstanceRef
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_webserver.cli import dagster_webserver
from msgspec import _core as _msgspec

from pipelines import settings
from pipelines.cli.main import main
from tests.cli import installed
from tests.test_distribution import PROJECT, PYPROJECT

COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text())
CHART = PROJECT / "deploy" / "helm" / "auditlake"
UNITS = PROJECT / "deploy" / "systemd"
WORKSPACE = str(CHART / "files" / "workspace.yaml")
PROGRAMS = {
    "auditlake": main,
    "dagster": create_dagster_cli(),
    "dagster-daemon": create_dagster_daemon_cli(),
    "pipelines.orchestration.webserver": dagster_webserver,
}
OURS = {name: one for name, one in COMPOSE["services"].items() if name != "postgres"}


def parse(words):
    """Parse a command line with the parser of its program. Raises click.UsageError."""
    if Path(words[0]).name.startswith("python"):
        assert words[1] == "-m"
        words = words[2:]
    command = PROGRAMS[Path(words[0]).name]
    # Where the file is here.
    rest = [WORKSPACE if word.endswith("/workspace.yaml") else word for word in words[1:]]
    while isinstance(command, click.Group):
        name, command, rest = command.resolve_command(click.Context(command), rest)
        assert command is not None, name
    command.make_context(command.name, rest)


def commands():
    for name, service in OURS.items():
        yield f"compose {name}", service["command"]
    for path in UNITS.glob("*.service"):
        unit = configparser.RawConfigParser(strict=False)
        unit.read(path)
        yield f"systemd {path.name}", shlex.split(unit["Service"]["ExecStart"])
    for path in CHART.glob("templates/*.yaml"):
        for found in re.findall(r"command: (\[.*?\])", path.read_text()):
            yield f"helm {path.name}", yaml.safe_load(found)


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands()])
def test_a_command_is_one_that_its_program_takes(words):
    parse(words)
    with pytest.raises(click.NoSuchOption):
        parse([*words, "--no-such-option"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_has_no_more_rights_than_it_needs(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "PASSWORD" not in "".join(
        key for key in service.get("environment", {}) if not key.endswith("_FILE")
    )


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_service_are_valid(name, monkeypatch):
    given = OURS[name].get("environment", {})
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings.from_environment()


def test_only_dagster_reaches_its_database_and_its_code_server():
    assert COMPOSE["networks"]["dagster"] == {"internal": True}
    services = COMPOSE["services"]
    networks = {name: set(service["networks"]) for name, service in services.items()}
    for name in ("postgres", "code"):
        near = {other for other in services if networks[other] & networks[name]}
        assert near == {"postgres", "code", "daemon", "dagster"}


def test_dagsters_configuration_is_valid(monkeypatch):
    for name, value in COMPOSE["x-dagster-environment"].items():
        monkeypatch.setenv(name, value)
    reference = InstanceRef.from_dir(str(CHART / "files"))
    assert reference.local_artifact_storage
    assert reference.compute_log_manager
    assert reference.run_launcher
    assert "postgresql+psycopg2" in reference.storage_data.config_yaml


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == PYPROJECT["project"]["version"]


def test_the_files_that_reach_the_image_build_the_whole_wheel(tmp_path):
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    for name in (line[1:] for line in lines if line.startswith("!")):
        target = tmp_path / "context" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy2
        copy(PROJECT / name, target)
    built = (
        installed.build("wheel", tmp_path / "image", tmp_path / "context"),
        installed.build("wheel", tmp_path / "own"),
    )
    image, own = (sorted(zipfile.ZipFile(wheel).namelist()) for wheel in built)
    assert image == own


def test_the_image_runs_as_nobody_in_particular():
    final = (PROJECT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert re.findall("^USER (.*)$", final, re.M) == ["10001:10001"]
    assert "VOLUME /var/lib/auditlake\n" in final


SLIM = PROJECT / "deploy" / "slim.sh"


@pytest.mark.skipif(not shutil.which("strip"), reason="needs binutils")
def test_the_image_loses_what_no_service_runs_and_keeps_the_rest(tmp_path):
    removed = (
        "pandas/tests/test_frame.py",
        "numpy/lib/tests/data/a.npy",
        "dagster_webserver/webapp/build/main.js.map",
        "pyarrow/include/arrow/api.h",
        "pyarrow/libarrow_flight.so.2600",
        "pyarrow/_flight.so",
        "pyarrow/lib.pyx",
        "pydeck/nbextension/static/index.js",
        "numpy/__init__.pyi",
    )
    kept = (
        "numpy/testing/__init__.py",
        "dagster_webserver/webapp/build/main.js",
        "pipelines/detections/packaged_rules/okta/a.tests.yml",
        "pyarrow/fs.py",
        "pydeck/nbextension/__init__.py",
        "tests.py",
    )
    for name in (*removed, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("content")
    library = shutil.copy(_msgspec.__file__, tmp_path / "pyarrow" / "lib.so")
    subprocess.run(["/bin/sh", str(SLIM), str(tmp_path)], check=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "pyarrow/lib.so"}
    assert library.stat().st_size <= Path(_msgspec.__file__).stat().st_size


def test_the_image_is_made_small_before_its_modules_are_compiled():
    build = (PROJECT / "Dockerfile").read_text().partition("\nFROM ")[2].partition("\nFROM ")[0]
    steps = ("uninstall --yes --quiet editables hatchling pip", "sh deploy/slim.sh", "compileall")
    places = [build.index(step) for step in steps]
    assert places == sorted(places)
    assert build.count("pip install --no-cache-dir --no-compile") == 2


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_units(tmp_path):
    shutil.copytree(UNITS, tmp_path / "etc/systemd/system")
    programs = tmp_path / "opt/auditlake/bin"
    programs.mkdir(parents=True)
    for name in ("auditlake", "dagster", "dagster-daemon", "python"):
        (programs / name).touch(0o755)
    units = ["auditlake.target", *(path.name for path in UNITS.glob("*.service"))]
    verify = ["systemd-analyze", f"--root={tmp_path}", "verify", "--recursive-errors=no"]
    done = subprocess.run([*verify, *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
