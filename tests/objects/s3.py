"""moto's S3 on loopback, in a process of its own, with atomic writes, a log, a delay and faults.

moto checks If-None-Match and If-Match, but not atomically, so writes are made one at a time. It is
a process because deltalake holds the interpreter's lock while it waits for some responses.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx

from pipelines.lake.tables import Lake

_PATIENCE = 120.0
"""Seconds; the first request makes moto import much."""
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")
_ERRORS = {
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
    "expired": ("400 Bad Request", "ExpiredToken"),
    "denied": ("403 Forbidden", "AccessDenied"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of the requests "METHOD /path?query" that `match` finds, so many `times`."""

    match: str
    kind: str
    """500, 503, denied, expired, slow, or lost: done, but closed without a response.

    Or killed, which kills the process `pid` instead of answering; or killed late: once it is done.
    """
    times: int = 1_000_000
    seconds: float = 0.0
    after: int = 0
    """How many of these requests are answered before."""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class S3:
    """A running server with the bucket `bucket`."""

    url: str

    @property
    def options(self) -> dict[str, str]:
        return {
            "aws_access_key_id": "id",
            "aws_secret_access_key": "test-secret",
            "aws_region": "us-east-1",
            "aws_endpoint_url": self.url,
            "aws_allow_http": "true",
        }

    def root(self) -> str:
        """Return the address of a new, empty folder."""
        return f"s3://bucket/{uuid.uuid4().hex}"

    def lake(self, **keys: Any) -> Lake:
        """Return a new, empty lake."""
        return Lake(self.root(), self.options, **keys)

    def order(self, *faults: Fault, delay: float = 0.0, conditional: bool = True) -> None:
        """Replace the faults, the seconds each request takes, and if conditions are honoured."""
        order = {"faults": list(map(asdict, faults)), "delay": delay, "conditional": conditional}
        httpx.post(f"{self.url}/_order", json=order, timeout=_PATIENCE).raise_for_status()

    def requests(self) -> list[str]:
        """Return and forget the requests since the last call, without the prefix of the lake."""
        found = httpx.get(f"{self.url}/_requests", timeout=_PATIENCE).json()
        return [re.sub(r"/bucket(/[0-9a-f]{32})?", "", unquote(each)) for each in found]

    def counted(self) -> Counter[str]:
        """Return how many requests since the last call were made of each method and table."""
        return Counter(map(_kind, self.requests()))

    def expect(self, most: int, about: str) -> None:
        """Fail, with the requests by method and table, if more were made since the last call."""
        found = self.counted()
        listed = "\n".join(f"{count:5} {kind}" for kind, count in found.most_common())
        assert found.total() <= most, f"{about}: {found.total()}, not {most} requests\n{listed}"


def _kind(request: str) -> str:
    method, _, path = request.partition(" ")
    if listed := re.search(r"prefix=[0-9a-f]{32}([^&]*)", path):
        method, path = "LIST", listed[1]
    return f"{method} {re.sub(r'[^/]*[0-9]{5}[^/]*$', '*', path)}"


class _Server:
    """The WSGI application."""

    def __init__(self) -> None:
        from moto.server import (
            DomainDispatcherApplication,
            create_backend_app,
        )

        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._log: list[str] = []
        self._order: dict[str, Any] = {"faults": [], "delay": 0.0, "conditional": True}

    def __call__(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        match request["PATH_INFO"]:
            case "/_requests":
                with self._lock:
                    log, self._log = self._log, []
                start("200 OK", [])
                return [json.dumps(log).encode()]
            case "/_order":
                length = int(request["CONTENT_LENGTH"])
                self._order = json.loads(request["wsgi.input"].read(length))
                start("200 OK", [])
                return []
        return self._troubled(request, start)

    def _troubled(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = request["QUERY_STRING"]
        path = request["PATH_INFO"] + (f"?{query}" if query else "")
        line = f"{request['REQUEST_METHOD']} {path}"
        time.sleep(self._order["delay"])
        with self._lock:
            self._log.append(line)
            fault = self._fault(unquote(line))
        if fault is None:
            return self._answered(request, start)
        if fault["kind"] == "slow":
            time.sleep(fault["seconds"])
            return self._answered(request, start)
        if fault["kind"] in ("lost", "killed late"):
            self._answered(request, lambda *_: None)
        if fault["kind"] in ("killed", "killed late"):
            os.kill(fault["pid"], signal.SIGKILL)
        if fault["kind"] in ("lost", "killed", "killed late"):
            request["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        status, code = _ERRORS[fault["kind"]]
        start(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]

    def _fault(self, line: str) -> dict[str, Any] | None:
        for fault in self._order["faults"]:
            if fault["times"] > 0 and re.search(fault["match"], line):
                if fault["after"] > 0:
                    fault["after"] -= 1
                    continue
                fault["times"] -= 1
                return dict(fault)
        return None

    def _answered(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if not self._order["conditional"]:
            request = {name: value for name, value in request.items() if name not in _CONDITIONS}
        if request["REQUEST_METHOD"] in ("GET", "HEAD"):
            return list(self._app(request, start))
        with self._writing:
            return list(self._app(request, start))


@contextmanager
def running() -> Iterator[S3]:
    """Serve an empty bucket."""
    command = [sys.executable, "-m", "tests.objects.s3"]
    project = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            httpx.put(f"{url}/bucket", headers=_SIGNED, timeout=_PATIENCE).raise_for_status()
            yield S3(url)
        finally:
            process.kill()


_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request"}


def main() -> None:
    """Serve until the standard input is closed."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None:
            """Print nothing."""

    server = make_server("127.0.0.1", 0, _Server(), threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
