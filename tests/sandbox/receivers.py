"""A receiver of pushes on a real socket, which records requests and may refuse them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@dataclass
class Got:
    """A request that arrived."""

    method: str
    path: str
    headers: httpx.Headers
    body: bytes
    answer: int = 0

    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[Got], tuple[int, bytes]]


def taken(got: Got) -> tuple[int, bytes]:
    """Accept a push, and answer Okta's verification challenge."""
    challenge = got.headers.get("x-okta-verification-challenge")
    return 200, json.dumps({"verification": challenge}).encode() if challenge else b""


@dataclass
class Receiver:
    url: str = ""
    got: list[Got] = field(default_factory=list)
    reply: Reply = taken

    def bodies(self, method: str = "POST") -> list[Got]:
        return [each for each in self.got if each.method == method and each.body]


class _Server(ThreadingHTTPServer):
    # The default of 5 is exceeded by the courier's 16 threads, and the system resets the rest.
    request_queue_size = 128


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free loopback port."""
    receiver = Receiver()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got = Got(self.command, self.path, httpx.Headers(self.headers.items()), body)
            got.answer, reply = receiver.reply(got)
            receiver.got.append(got)
            self.send_response(got.answer)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST  # noqa: N815 named by the base class

        def log_message(self, *_: object) -> None:
            pass

    listening = _Server(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{listening.server_port}"
    try:
        yield receiver
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
