"""Streamlit's scripts, styles and fonts: sent from memory, and preloaded by the page.

Streamlit reads each file from the disk for each request, never compresses it, and its page finds
out only from the answers of the server which scripts it needs: in four rounds, the last of them for
the graph and the grid. Preloaded, these are ready when the first run of the page is.
"""

from __future__ import annotations

import functools
import gzip
import mimetypes
import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import file_util

_FOLDER = Path(file_util.get_static_dir())
# The elements of Explore; other pages have most of them, too.
_ELEMENTS = (
    "Html", "Button", "Checkbox", "TextInput", "Selectbox", "ButtonGroup",
    "ArrowVegaLiteChart", "DataFrame", "Pagination", "BidiComponent",
)  # fmt: skip
_ICONS = "MaterialSymbols-Rounded"
_IMPORTED = re.compile(r"""\b(?:from|import)\s*["'`]\./([\w.-]+\.js)["'`]""")
_COMPRESSED = {".js", ".css"}
# As Streamlit does: the names contain hashes of the contents.
_FOREVER = "public, immutable, max-age=31536000"


class StreamlitFiles:
    """ASGI middleware that sends these files, and makes Streamlit's page preload scripts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
        elif path := _files().get(scope["path"]):
            response = await run_in_threadpool(_response, path, Headers(scope=scope))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, _preloading(send))


@functools.cache
def _files() -> dict[str, Path]:
    """Return the files by the paths of their URLs."""
    found = (_FOLDER / "static").rglob("*")
    return {f"/{path.relative_to(_FOLDER).as_posix()}": path for path in found if path.is_file()}


def _response(path: Path, asked: Headers) -> Response:
    kind, _ = mimetypes.guess_type(path.name)
    headers = {"cache-control": _FOREVER}
    if path.suffix not in _COMPRESSED:
        return Response(_content(path), headers=headers, media_type=kind)
    headers["vary"] = "Accept-Encoding"
    if "gzip" not in asked.get("accept-encoding", ""):
        return Response(_content(path), headers=headers, media_type=kind)
    headers["content-encoding"] = "gzip"
    return Response(_compressed(path), headers=headers, media_type=kind)


@functools.cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


@functools.cache
def _compressed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def _preloading(send: Send) -> Send:
    """Return a `send` that adds the preloading to a page and changes no other response."""
    start: Message = {}
    page = bytearray()

    async def rewriting(message: Message) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            start.update(message)
        elif not start or message["type"] != "http.response.body":
            await send(message)
        else:
            page.extend(message.get("body", b""))
            if not message.get("more_body", False):
                headers = MutableHeaders(raw=start["headers"])
                body = _preloaded(page, compressed="content-encoding" in headers)
                del headers["content-encoding"]
                headers["content-length"] = str(len(body))
                await send(start)
                await send({"type": "http.response.body", "body": body})

    return rewriting


def _is_page(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] == 200 and kind.startswith("text/html")


def _preloaded(page: bytes | bytearray, *, compressed: bool) -> bytes:
    html = gzip.decompress(page) if compressed else bytes(page)
    return html.replace(b"</head>", f"{_links()}</head>".encode(), 1)


@functools.cache
def _links() -> str:
    """Return the links that preload the files that Streamlit's page does not."""
    page = (_FOLDER / "index.html").read_text(encoding="utf-8")
    scripts = [name for name in _scripts() if name not in page]
    # Low, or the page would connect to the server after them.
    rel = 'rel="modulepreload" fetchpriority="low" crossorigin'
    links = [f'<link {rel} href="./static/js/{name}">' for name in scripts]
    fonts = (_FOLDER / "static" / "media").glob(f"{_ICONS}.*.woff2")
    href = "./static/media"
    links += [
        f'<link rel="preload" as="font" type="font/woff2" crossorigin href="{href}/{font.name}">'
        for font in fonts
    ]
    return "\n".join(links)


def _scripts() -> list[str]:
    """Return the names of the elements' scripts and of all that these import.

    The names contain hashes: a script that a later Streamlit renames is not preloaded.
    """
    folder = _FOLDER / "static" / "js"
    wanted = [path.name for name in _ELEMENTS for path in folder.glob(f"{name}.*.js")]
    found: dict[str, None] = {}
    while wanted:
        name = wanted.pop()
        if name not in found and f"/static/js/{name}" in _files():
            found[name] = None
            wanted += _IMPORTED.findall((folder / name).read_text(encoding="utf-8"))
    return list(found)
