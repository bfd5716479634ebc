"""Streamlit's own files: from memory, compressed, kept by browsers, and preloaded."""

from __future__ import annotations

import asyncio
import gzip
import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from streamlit.web.server.starlette.starlette_static_routes import (
    create_streamlit_static_assets_routes,
)

from dashboard.streamlit_files import _FOLDER, _ICONS, StreamlitFiles

_PAGE = (_FOLDER / "index.html").read_text(encoding="utf-8")
_SCRIPT = re.search(r"\./(static/js/index\.[\w-]+\.js)", _PAGE)
_LINKED = re.compile(r'href="\./(static/[^"]+)"')


async def _packed(_: object) -> Response:
    body = gzip.compress(b"<head></head>ok")
    return HTMLResponse(body, headers={"content-encoding": "gzip"})


_APP = Starlette(
    routes=[
        Route("/plain", lambda _: PlainTextResponse("<head></head>")),
        Route("/missing", lambda _: HTMLResponse("<head></head>", status_code=404)),
        Route("/packed", _packed),
        *create_streamlit_static_assets_routes(None),
    ],
    middleware=[Middleware(StreamlitFiles)],
)


def fetch(path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def fetched() -> httpx.Response:
        transport = httpx.ASGITransport(app=_APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(fetched())


def script() -> str:
    assert _SCRIPT
    return _SCRIPT[1]


@pytest.mark.parametrize("coding", ["gzip, deflate, br", "identity"])
def test_a_script_is_the_file_and_kept_for_good(coding: str) -> None:
    got = fetch(f"/{script()}", **{"Accept-Encoding": coding})
    assert got.content == (_FOLDER / script()).read_bytes()
    assert got.headers["cache-control"] == "public, immutable, max-age=31536000"
    assert got.headers["content-type"].startswith("text/javascript")
    assert got.headers["vary"] == "Accept-Encoding"
    compressed = got.headers.get("content-encoding") == "gzip"
    assert compressed == ("gzip" in coding)
    assert not compressed or int(got.headers["content-length"]) < len(got.content) / 2


@pytest.mark.parametrize("path", ["/", "/sources"])
def test_a_page_preloads_what_explore_shows_once(path: str) -> None:
    got = fetch(path)
    linked = _LINKED.findall(got.text)
    names = [name.rpartition("/")[2].partition(".")[0] for name in linked]
    assert {"DataFrame", "ArrowVegaLiteChart", "embed", _ICONS} <= {*names}
    assert len(linked) == len({*linked})
    assert all((_FOLDER / name).is_file() for name in linked)
    assert {*_LINKED.findall(_PAGE)} < {*linked}
    # Nothing else of the page is changed, and it is not kept.
    added = re.compile(r'<link rel="(?:modulepreload|preload)"[^>]+>\n?')
    assert added.sub("", got.text).split() == added.sub("", _PAGE).split()
    assert got.headers["cache-control"] == "no-cache"
    assert int(got.headers["content-length"]) == len(got.content)


def test_a_compressed_page_is_unpacked_for_it() -> None:
    got = fetch("/packed")
    assert got.text.startswith("<head><link") and got.text.endswith("</head>ok")
    assert "content-encoding" not in got.headers


@pytest.mark.parametrize("path", ["/plain", "/missing"])
def test_other_responses_pass_unchanged(path: str) -> None:
    assert fetch(path).text == "<head></head>"


@pytest.mark.parametrize(
    "path", ["/static/js/none.js", "/static/..%2findex.html", "/static/%2e%2e/%2e%2e/__init__.py"]
)
def test_only_streamlits_files_are_sent_from_memory(path: str) -> None:
    assert fetch(path).headers.get("cache-control") != "public, immutable, max-age=31536000"


def test_a_conditional_request_for_the_page_gets_no_body() -> None:
    tag = fetch("/").headers["etag"]
    got = fetch("/", **{"If-None-Match": tag})
    assert (got.status_code, got.content) == (304, b"")


def test_head_is_answered_by_streamlit() -> None:
    assert fetch(f"/{script()}", "HEAD").status_code == 200
