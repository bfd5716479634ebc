"""Witnesses on the loopback interface: the real one, and some that misbehave."""

import http.server
import threading
from contextlib import contextmanager

import uvicorn

from pipelines.cli.witness import config
from pipelines.integrity import cosignatures, signer, witnesses
from pipelines.integrity.witness import protocol, state
from pipelines.settings import Witness
from tests.integrity.worlds import LOG
from tests.waiting import until

AT = 1_772_366_400
"""2026-03-01 12:00 UTC, in seconds."""


class Server(uvicorn.Server):
    """A server in a thread of its own."""

    def run_in_thread(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        until(lambda: self.started or not self.thread.is_alive(), "a server")

    def stop(self):
        self.should_exit = True
        self.thread.join()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"


@contextmanager
def serving(folder, logs, *, name="witness.example/w1", key=None, at=AT, port=0, accepted=()):
    """Run the real witness; yield it as a setting of the log's operator."""
    key = key or cosignatures.new_key(name)
    with state.opened(folder) as opened:
        witness = protocol.Witness(key, logs, opened, lambda: at, accepted)
        server = Server(config(witness, "127.0.0.1", port))
        server.run_in_thread()
        try:
            yield Witness(url=server.address, key=key.vkey)
        finally:
            server.stop()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with what the test has chosen."""

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        answer = self.server.answer
        status, media, body = answer(self) if callable(answer) else answer
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def answering(answer):
    """Run a server with these answers: (status, media type, body), or a function that returns it.

    Yields the server; `bodies` are those of the requests, `address` its own.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.bodies = answer, []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def submitted(world, name=LOG.app):
    """Submit the checkpoint of a log to the witnesses, and return the failures."""
    return witnesses.submit(world.lake, world.integrity, [name])


def witnessed(world, *chosen, quorum=None):
    """Set the witnesses of a lake."""
    world.settings = {**world.settings, "witnesses": chosen, "quorum": quorum}
    return world


def note_of(world, log=LOG.app):
    return signer.of(world.lake, log).folder.get("checkpoint")


def background():
    """Wait for the submissions in the background."""
    witnesses._background.submit(lambda: None).result()
