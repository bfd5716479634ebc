"""Requests to a receiver, correct or not."""

import socket
import time

import httpx

from tests.webhooks.conftest import SECRET

GOOD = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
HOOK = b'{"data":{"events":[{"uuid":"1","published":"2026-01-01T00:00:00Z"}]}}'
SIZE = len(HOOK)


def head(path="/okta", length=SIZE, extra="", secret=SECRET, method="POST"):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def post(receiver, name="okta", body=HOOK, **headers):
    return httpx.post(f"{receiver.url}/{name}", content=body, headers={**GOOD, **headers})


def drip(receiver, start, seconds):
    """Send a byte now and then; return the seconds until the connection ends, and the answer."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=seconds) as peer:
        peer.sendall(start)
        peer.settimeout(0.05)
        answer = b""
        while time.monotonic() - began < seconds:
            try:
                more = peer.recv(4096)
                if not more:
                    break
                answer += more
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                peer.sendall(b"a")
            except OSError:
                break
        return time.monotonic() - began, answer
