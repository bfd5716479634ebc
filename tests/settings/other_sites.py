"""Pages of other sites, and raw requests as browsers send them for such pages."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REBOUND = "rebound.example"
"""The attacker's name, which the browsers of the tests resolve to 127.0.0.1."""
RESOLVED = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@contextmanager
def page(html: str) -> Iterator[str]:
    """Serve one page on a port of its own, and yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def handshake(port: int, path: str, origin: str | None, host: str = "") -> int:
    """Ask for a WebSocket and return the status: 101 if it is open."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}"]
    lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Key: {_KEY}", *([f"Origin: {origin}"] if origin else [])]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        peer.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(peer.recv(64).split(b" ")[1])


OPENS_SOCKET = """<body><script>
  const socket = new WebSocket("%s");
  socket.onopen = () => document.title = "open";
  socket.onerror = () => document.title = "refused";
</script>"""
