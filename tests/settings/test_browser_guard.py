"""Requests that a page of another site makes are refused; programs and own pages pass."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from pipelines.settings.browser_guard import BrowserGuard, from_browser

NAMES = ("192.0.2.5", "audit.acme.example", "other.acme.example:8443", "2001:db8::1")


def sent(headers, kind="http", method="GET", guard=None):
    """The messages that a request gets from an app behind the guard."""
    messages = []

    async def app(scope, receive, send):
        if kind == "http":
            await PlainTextResponse("ok")(scope, receive, send)
        else:
            await send({"type": f"{kind}.accepted"})

    async def send(message):
        messages.append(message)

    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": "/", "headers": encoded}
    guard = guard or BrowserGuard(app, NAMES)
    guard._app = app
    asyncio.run(guard(scope, None, send))
    return messages


def passes(headers, kind="http", method="GET"):
    first = sent(headers, kind, method)[0]
    return first.get("status") == 200 or first["type"] == f"{kind}.accepted"


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:3000", "127.0.0.1:8501", "127.9.9.9", "[::1]:8501"),
        *("192.0.2.5:8501", "audit.acme.example", "Audit.Acme.Example:443", "[2001:db8::1]:8501"),
        *("other.acme.example", "other.acme.example:8443"),
    ],
)
def test_the_names_of_loopback_and_the_configured_ones_are_served(host):
    assert passes({"Host": host})
    assert passes({"Host": host, "Origin": f"http://{host}"}, method="POST")
    assert passes({"Host": host, "Origin": f"http://{host}"}, kind="websocket")


@pytest.mark.parametrize(
    "host",
    [
        *("rebound.example", "rebound.example:8501", "localhost.rebound.example", "0.0.0.0:8501"),
        *("127.0.0.1.rebound.example", "evil-localhost", "localhost.", "127.1", "10.0.0.5"),
        *("audit.acme.example.evil.example", "xaudit.acme.example", "", "[", "[::1", "::1"),
    ],
)
def test_every_other_name_is_refused(host):
    for kind in ("http", "websocket"):
        assert not passes({"Host": host}, kind)
        assert not passes({"Host": host, "Origin": f"http://{host}"}, kind)


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
def test_no_other_text_is_a_name_of_loopback(text):
    if passes({"Host": "x" + text.lower()}):
        raise AssertionError(text)


@pytest.mark.parametrize(
    "origin",
    [
        *("http://127.0.0.1:9999", "http://localhost:8501", "https://evil.example", "null", ""),
        *("http://127.0.0.1:8501.evil.example", "http://[", "file://", "http://127.0.0.1"),
        *("https://audit.acme.example:9443", "https://other.acme.example", "http://192.0.2.5:99"),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_page_of_another_origin_is_refused(origin, kind):
    assert not passes({"Host": "127.0.0.1:8501", "Origin": origin}, kind, "POST")


@pytest.mark.parametrize(
    "origin", ["https://audit.acme.example", "https://other.acme.example:8443"]
)
def test_a_proxy_may_change_the_host(origin):
    assert passes({"Host": "127.0.0.1:8501", "Origin": origin}, "websocket")


SITES = ("cross-site", "same-site")


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    ("mode", "dest"),
    [("no-cors", "image"), ("no-cors", "script"), ("cors", "empty"), ("navigate", "iframe"),
     ("navigate", "object"), ("websocket", "websocket"), ("navigate", "")],
)  # fmt: skip
def test_a_page_of_another_site_embeds_nothing(site, mode, dest):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert not passes({"Host": "127.0.0.1:8501", **headers})
    assert not passes({"Host": "127.0.0.1:8501", **headers}, "websocket")


@pytest.mark.parametrize("site", SITES)
def test_a_link_may_be_followed_but_no_form_be_sent(site):
    headers = {
        "Host": "127.0.0.1:8501",
        "Sec-Fetch-Site": site,
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert passes(headers)
    assert not passes(headers, method="POST")
    assert not passes(headers, "websocket")


def test_programs_send_no_header_of_a_browser_and_pass():
    assert passes({})
    assert passes({"Host": "127.0.0.1:8501", "User-Agent": "curl"}, method="POST")
    assert passes({"Host": "localhost", "Sec-Fetch-Site": "none"})


def test_a_refusal_is_short_not_cached_and_without_text_of_the_request():
    start, body = sent({"Host": "rebound.example"})
    assert start["status"] == 403
    assert (b"cache-control", b"no-store") in start["headers"]
    assert b"allowed_hosts" in body["body"]
    assert b"rebound" not in body["body"]
    (closed,) = sent({"Host": "rebound.example"}, "websocket")
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


def test_the_start_of_the_server_passes_unchanged():
    assert sent({}, "lifespan") == [{"type": "lifespan.accepted"}]


def test_each_reason_is_logged_once(caplog):
    guard = BrowserGuard(None)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sent({"Host": "rebound.example"}, guard=guard)
            sent({"Host": "localhost", "Origin": "http://evil.example"}, guard=guard)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "allowed_hosts" in lines[0]
    assert "another origin" in lines[1]
    assert "example" not in "".join(lines)


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
def test_a_server_on_all_addresses_is_reached_by_each_of_them_but_by_no_other_name(listen):
    guard = BrowserGuard(None, [listen])
    for host, status in [
        *(("10.0.0.5:8501", 200), ("[2001:db8::7]:8501", 200), ("localhost", 200)),
        *(("rebound.example", 403), ("10.0.0.5.rebound.example", 403), ("", 403)),
    ]:
        assert sent({"Host": host}, guard=guard)[0]["status"] == status
    foreign = {"Host": "10.0.0.5:8501", "Origin": "http://10.0.0.5:9999"}
    assert sent(foreign, guard=guard)[0]["status"] == 403


def test_headers_of_a_browser_are_recognised():
    assert from_browser({"origin": "null"})
    assert from_browser({"sec-fetch-site": "none"})
    assert from_browser({"sec-fetch-storage-access": "active"})
    assert not from_browser({"host": "x", "x-origin": "y", "sec-ch-ua": "z"})
