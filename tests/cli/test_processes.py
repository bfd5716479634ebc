"""The processes of `auditlake up` start, are watched, and end together."""

import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace

import pytest

from pipelines.cli import processes
from pipelines.cli.processes import Server
from pipelines.errors import ConfigurationError, Unavailable
from pipelines.settings import Listen
from tests.cli.up_process import children, pid_of, started
from tests.waiting import SECONDS, free_ports, until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_up(tmp_path, number):
    with started(tmp_path) as (process, _, out):
        until(lambda: len(children(tmp_path)) >= 3, "children")
        process.send_signal(number)
        code = process.wait(90)  # not as long as the services, which are gone, are tried again
    until(lambda: not children(tmp_path), "no child")
    assert code == (0 if number == signal.SIGTERM else -number), out.read_text()


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, AUDITLAKE_DASHBOARD__PORT=port) as (process, _, out):
            assert process.wait(SECONDS) == 2
    (line,) = out.read_text().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "dashboard.port" in line
    assert not (tmp_path / ".dagster").exists()


def test_a_child_that_dies_is_named_with_the_end_of_its_log(tmp_path):
    (tmp_path / "auditlake.toml").write_text("[dashboard]\nhost = '127.0.0.1'\n")
    with started(tmp_path, DAGSTER_WEBSERVER_PROXY="x", PYTHONWARNINGS="") as (process, _, out):
        until((tmp_path / ".dagster" / "logs" / "dagster.log").exists, "Dagster's log")
        pid = until(lambda: pid_of(tmp_path, b"orchestration.webserver"), "Dagster")
        os.killpg(pid, signal.SIGKILL)
        assert process.wait(SECONDS) == 1
    assert "auditlake: dagster exited with code -9" in out.read_text()
    until(lambda: not children(tmp_path), "no child")


def server(*command, port=None, name="sandbox", host="127.0.0.1"):
    listen = Listen(host=host, port=port) if port else None
    return Server(name=name, command=command, listen=listen, key=f"{name}.port")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that starts a shell script as a child; none is left afterwards."""
    monkeypatch.chdir(tmp_path)
    children = []

    def started(script, **options):
        child = processes.start(server("sh", "-c", script, **options), {"PATH": os.environ["PATH"]})
        children.append(child)
        return child

    yield started
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_a_port_in_use_is_refused_with_its_setting_and_a_free_one_is_not(host, family):
    (free,) = free_ports(1)
    processes.refuse_taken_ports([server(), server(port=free, host=host)])
    with socket.create_server((host, 0), family=family) as taken:
        used = server(port=taken.getsockname()[1], host=host, name="dashboard")
        with pytest.raises(ConfigurationError) as error:
            processes.refuse_taken_ports([server(port=free, host=host), used])
    message = f"dashboard cannot listen on {used.address} (Address already in use)"
    assert message in str(error.value)
    assert "set dashboard.port in auditlake.toml (AUDITLAKE_DASHBOARD__PORT" in str(error.value)


def test_a_dead_child_is_reported_with_the_last_lines_of_its_log(start):
    child = start("seq 1 100; echo the reason >&2; exit 7")
    child.process.wait()
    with pytest.raises(Unavailable) as error:
        processes.wait(lambda: False, [child])
    first, *lines = str(error.value).splitlines()
    assert first.startswith("sandbox exited with code 7; last lines of .dagster/logs/sandbox.log")
    assert (lines[0], lines[-1], len(lines)) == ("  87", "  the reason", 15)


def test_a_child_is_ready_once_it_responds_even_with_an_error(start):
    (port,) = free_ports(1)
    child = start(f"exec {sys.executable} -m http.server {port} --bind 127.0.0.1", port=port)
    processes.wait_until_ready(replace(child, server=replace(child.server, health="/missing")))
    processes.wait(lambda: True, [child])
    assert "/missing" in child.log.read_text()


def test_a_child_that_dies_or_takes_too_long_is_not_ready(start, monkeypatch):
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match="exited with code 3"):
        processes.wait_until_ready(start("exit 3", port=port))
    monkeypatch.setattr(processes, "_START_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="did not respond within 0 s"):
        processes.wait_until_ready(start("exec sleep 600", port=port))


def test_children_and_theirs_end_even_if_they_ignore_the_first_signal(start, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_STOP_SECONDS", 0.2)
    os.mkfifo(tmp_path / "fifo")
    stubborn, polite = (
        start("trap '' TERM; sleep 600 >fifo & exec sleep 600"),
        start("exec sleep 600"),
    )
    printed = []
    with (tmp_path / "fifo").open("rb") as held:  # opens once the grandchild runs
        with (
            pytest.raises(ZeroDivisionError),
            processes.stopping([polite, stubborn], printed.append),
        ):
            raise ZeroDivisionError
        assert held.read() == b""  # the end of the file: no process has it open
    codes = [child.process.returncode for child in (polite, stubborn)]
    assert (codes, printed) == ([-signal.SIGTERM, -signal.SIGKILL], ["stopping"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_block_and_a_second_does_not_disturb_the_end(number):
    before, ended = signal.getsignal(number), []
    with processes.stoppable():
        try:
            signal.raise_signal(number)
            processes.pause(600)
        finally:
            signal.raise_signal(number)
            ended.append(True)
    assert ended == [True]
    assert signal.getsignal(number) is before
    processes.pause(0)


class InterruptedLock:
    """The lock of a Popen, acquired while a signal arrives."""

    def __init__(self, lock):
        self.lock, self.release = lock, lock.release

    def acquire(self, *args):
        acquired = self.lock.acquire(*args)
        signal.raise_signal(signal.SIGTERM)
        return acquired


def test_a_signal_during_a_check_leaves_no_lock_held(start, monkeypatch):
    child = start("exec sleep 600")
    lock = child.process._waitpid_lock
    with monkeypatch.context() as patched, processes.stoppable():
        patched.setattr(child.process, "_waitpid_lock", InterruptedLock(lock))
        child.check()
    assert not lock.locked()


def test_logs_are_bounded_and_keep_the_newest_lines(start):
    child = start("n=0; while :; do n=$((n+1)); echo $n; done")
    former = child.log.with_name("sandbox.log.1")
    for _ in range(3):
        until(lambda: child.log.stat().st_size > 5_000, "lines")
        processes.rotate(child.log, limit=5_000)
        assert former.stat().st_size > 5_000
        until(lambda: b"\n" in child.log.read_bytes(), "a line after rotating")
        newer, older = (int(log.read_bytes().split()[0]) for log in (child.log, former))
        assert newer > older
    assert b"\0" not in child.log.read_bytes(), "writing continues at the start of the file"


def test_a_small_log_is_not_rotated(start):
    child = start("echo started; exec sleep 600")
    until(child.log.read_bytes, "a line")
    processes.rotate(child.log)
    assert child.log.read_text() == "started\n"
    assert not child.log.with_name("sandbox.log.1").exists()


def test_a_server_without_http_is_ready_once_its_socket_accepts(start, tmp_path):
    path = tmp_path / "a.sock"
    script = "import socket as s, sys; x = s.socket(s.AF_UNIX); x.bind(sys.argv[1]); x.listen()"
    child = start(f"exec {sys.executable} -c '{script}; x.accept(); x.accept()' {path}")
    processes.wait_until_ready(replace(child, server=replace(child.server, socket=path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
