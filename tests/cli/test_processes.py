"""The processes of `auditlake up` start, are watched, and end together."""

import os
import signal
import socket

import pytest

from tests.cli.up_process import children, pid_of, started
from tests.waiting import SECONDS, until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_up(tmp_path, number):
    with started(tmp_path) as (process, _, out):
        until(lambda: len(children(tmp_path)) >= 3, "children")
        process.send_signal(number)
        code = process.wait(SECONDS)
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
        pid = until(lambda: pid_of(tmp_path, b"dagster_webserver"), "Dagster")
        os.killpg(pid, signal.SIGKILL)
        assert process.wait(SECONDS) == 1
    assert "auditlake: dagster exited with code -9" in out.read_text()
    until(lambda: not children(tmp_path), "no child")
