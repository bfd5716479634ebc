"""`auditlake dashboard` runs the dashboard alone, by the rules that `auditlake up` has, too."""

import os
import subprocess
import sys

import httpx

from pipelines.cli import dashboard
from pipelines.settings import Site
from tests.cli.up_process import FROM_SOURCE, PROJECT
from tests.waiting import SECONDS, free_ports, until


def start(folder, host, **options):
    (port,) = free_ports(1)
    (folder / "own.toml").write_text(f"[dashboard]\nhost = '{host}'\nport = {port}\n")
    command = [*FROM_SOURCE, "--config", "own.toml", "dashboard"]
    environment = {**os.environ, "PYTHONPATH": PROJECT}
    return port, subprocess.Popen(command, cwd=folder, env=environment, **options)


def test_it_serves_and_ends_with_the_signal_of_a_supervisor(tmp_path):
    port, process = start(tmp_path, "127.0.0.1")

    def healthy():
        try:
            return httpx.get(f"http://127.0.0.1:{port}/_stcore/health").text == "ok"
        except httpx.TransportError:
            return False

    try:
        until(healthy, "the dashboard")
    finally:
        process.terminate()
        code = process.wait(SECONDS)
    assert code in (0, -15)


def test_it_refuses_other_addresses_without_sign_in(tmp_path):
    _, process = start(tmp_path, "0.0.0.0", stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    out, errors = process.communicate(timeout=SECONDS)
    assert b"refusing to listen on 0.0.0.0 without sign-in" in out + errors
    assert process.returncode != 0


def test_its_public_name_is_passed_on_without_the_port():
    found = dashboard.command(Site(port=1, allowed_hosts=("audit.example.com:8443", "b")))
    assert found[0] == sys.executable
    assert "--browser.serverAddress=audit.example.com" in found
