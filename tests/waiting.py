"""Free ports, and conditions to wait for."""

import socket
import time

import httpx

SECONDS = 420


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def responds(port):
    """Return whether Dagster's web server on this port is up."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/server_info", timeout=5).is_success
    except httpx.TransportError:
        return False


def until(ready, what, seconds=SECONDS):
    """Poll for a condition, within a bound; one that is slow to check is checked less often."""
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        if found := ready():
            return found
        time.sleep(max(0.2, 2 * (time.monotonic() - start)))
    raise AssertionError(f"not in {seconds} s: {what}")
