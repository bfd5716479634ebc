"""Results come in order, few wait, and killed workers and drivers leave nothing behind."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import engines
from pipelines.cli import main
from pipelines.errors import AuditlakeError, ConfigurationError, LakeError
from tests.engines import work
from tests.waiting import until

LARGE = 10**6


@pytest.fixture(scope="module")
def pair():
    with engines.opened("processes", {"AUDITLAKE_TEST": "seen"}, workers=2) as engine:
        yield engine


def test_results_are_in_the_order_of_the_parts_and_made_elsewhere(pair):
    found = list(pair.map(work.identify, range(20), LARGE))
    assert [part for part, _ in found] == list(range(20))
    assert os.getpid() not in {process for _, process in found}


def test_workers_get_the_variables_and_one_thread_for_polars(pair):
    names = ["AUDITLAKE_TEST", "POLARS_MAX_THREADS"]
    assert list(pair.map(work.variable, names, LARGE)) == ["seen", "1"]
    assert "AUDITLAKE_TEST" not in os.environ


def test_an_error_is_raised_as_it_is_and_the_workers_stay(pair):
    with pytest.raises(LakeError, match="no 0"):
        list(pair.map(work.fail, range(2), LARGE))
    assert len(list(pair.map(work.identify, range(3), LARGE))) == 3


def test_a_killed_worker_is_replaced(pair, tmp_path):
    found = list(pair.map(work.die_once, [str(tmp_path)] * 5, LARGE))
    assert len(found) == 5
    assert (tmp_path / "killed").exists()


def test_workers_that_are_always_killed_are_given_up(monkeypatch):
    monkeypatch.setattr(engines, "_MOST_DEATHS", 1)
    with (
        engines.opened("processes", workers=2) as engine,
        pytest.raises(AuditlakeError, match="killed 1 times in a row"),
    ):
        list(engine.map(work.die, range(2), LARGE))


@pytest.mark.parametrize(("workers", "parts", "rows"), [(1, 5, LARGE), (2, 1, LARGE), (2, 5, 99)])
def test_one_core_one_part_or_few_rows_stay_in_this_process(workers, parts, rows):
    with engines.opened("processes", workers=workers) as engine:
        found = list(engine.map(work.identify, range(parts), rows))
    assert found == [(part, os.getpid()) for part in range(parts)]


def test_only_a_few_results_wait_to_be_taken(monkeypatch):
    submitted = []

    class Pool:
        def __init__(self, *_, **__):
            pass

        def submit(self, function, part):
            submitted.append(part)
            future = Future()
            future.set_result(function(part))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(engines, "ProcessPoolExecutor", Pool)
    with engines.opened("processes", workers=2) as engine:
        found = engine.map(work.identify, range(50), LARGE)
        for taken in range(1, 40):
            next(found)
            assert len(submitted) == taken + 2
        found.close()
    assert len(submitted) == 41


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = (
        "import sys; from pipelines import engines; from tests.engines import work\n"
        "if __name__ == '__main__':\n"
        "    with engines.opened('processes', workers=2) as engine:\n"
        "        list(engine.map(work.stay, [sys.argv[1]] * 2, 10**6))\n"
    )
    program = tmp_path / "program.py"
    program.write_text(script)
    home = Path(__file__).parents[2]
    pids = tmp_path / "pids"
    pids.mkdir()
    driver = subprocess.Popen(
        [sys.executable, str(program), str(pids)], env={**os.environ, "PYTHONPATH": str(home)}
    )
    try:
        until(lambda: len(list(pids.iterdir())) == 2, "both workers work")
    finally:
        driver.kill()
        driver.wait()
    workers = [int(path.name) for path in pids.iterdir()]
    until(lambda: not any(map(_runs, workers)), "the workers have ended")


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("name", ["ray", "dask", "ray://head:10001", "tcp://head:8786"])
def test_an_engine_that_is_not_installed_is_named_in_one_line(monkeypatch, name):
    for module in ("ray", "distributed"):
        monkeypatch.setitem(sys.modules, module, None)
    missing = pytest.raises(ConfigurationError, match="is not installed: run `pip install")
    with missing as caught, engines.opened(name):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["spark", "", "ray://", "ray://head", "ray://head:x", "processes://a:1", "dask://a:1"]
)
def test_an_unknown_engine_is_refused(name):
    with pytest.raises(ConfigurationError, match="use processes, ray, ray://HOST:PORT, dask or"):
        engines.check(name)


@pytest.mark.parametrize(
    "command", [("renormalise",), ("maintain",), ("export", "--format", "csv"), ("verify",)]
)
def test_commands_refuse_an_unknown_engine_before_they_begin(tmp_path, command):
    config = tmp_path / "auditlake.toml"
    config.write_text(f'[lake]\nroot = "{tmp_path}/lake"\n')
    done = CliRunner().invoke(main.main, ["--config", str(config), *command, "--engine", "spark"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "--engine spark: use " in done.stderr
    assert not (tmp_path / "lake").exists()


def test_the_signal_of_the_keyboard_is_left_to_the_driver(pair):
    first, *_ = {process for _, process in pair.map(work.identify, range(4), LARGE)}
    os.kill(first, signal.SIGINT)
    assert len(list(pair.map(work.identify, range(4), LARGE))) == 4
