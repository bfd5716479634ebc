"""The simulated vendors, as a user starts them."""

import contextlib
import signal
import socket
import subprocess
import sys
import time

import httpx


def test_the_sandbox_ends_quietly_with_ctrl_c(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines", "sandbox", "--port", str(port), "--days", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/_sandbox/requests/okta", trust_env=False)
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Aborted" not in output
