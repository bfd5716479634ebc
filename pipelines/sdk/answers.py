"""Read an answer that is not the expected one: a service's error, or a page from somebody else.

A proxy, a sign-in page or a bot check may answer in the service's place, with 200 as well as with
403. Texts of an answer are shown on one line, escaped, shortened and without secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import httpx

from pipelines.errors import Unavailable
from pipelines.sdk import json_records

_LONGEST = 240
_HEAD = 512
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<meta", b"<title")
_TITLE = re.compile(rb"<title[^>]*>(.{1,400}?)</title", re.IGNORECASE | re.DOTALL)
_CODES = ("code", "errorCode", "error_code", "status", "reason")
_TEXTS = ("message", "Message", "errorSummary", "error_description", "detail", "title", "reason")
_HIDDEN = re.compile(
    r"eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"
    r"|(?<=Bearer )\S+|(?<=SSWS )\S+|(?<=GenieKey )\S+|(?<=Basic )\S+|(?<=DPoP )\S+"
)
_FORM_SECRETS = ("client_secret", "client_assertion", "assertion")
_SECRET_HEADERS = ("Authorization", "x-api-key", "DPoP")


def place(request: httpx.Request) -> str:
    """Return the method and address of a request, without its query."""
    return f"{request.method} {request.url.copy_with(query=None, fragment=None)}"


def members(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, or an empty one if it contains anything else."""
    with suppress(ValueError, RecursionError):
        found = json_records.load(body)
        if isinstance(found, dict):
            return found
    return {}


def objects(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the objects in a JSON array. Raises MalformedJson if the body is anything else."""
    found = map(json_records.load, json_records.split_array(response.content))
    return [each for each in found if isinstance(each, dict)]


def is_page(response: httpx.Response) -> bool:
    """Return whether this is a page for people instead of an answer of an API."""
    start = response.content[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_HTML):
        return True
    html = "html" in response.headers.get("Content-Type", "")
    # A successful answer is JSON or, at Opsgenie, an address or a file of JSON lines. Storage
    # services report errors in XML, though.
    return start.startswith(b"<") and (html or response.is_success)


def page_error(response: httpx.Response) -> Unavailable:
    """Return the error for a page that was sent in the place of a service's answer."""
    found = _TITLE.search(response.content[: 64 * _HEAD])
    title = shown(found[1].decode("utf-8", "replace")) if found else ""
    return Unavailable(
        f"{place(response.request)} answered {response.status_code} with a web page"
        f"{f' ({title})' if title else ''} instead of JSON: a proxy, a sign-in page or a bot check "
        "answers in the vendor's place, or base_url is not the address of its API; check both; "
        "the next round retries"
    )


def message(response: httpx.Response, secrets: Iterable[str] = ()) -> str:
    """Return the service's own error in a response, such as "E0000006: You do not ...", or ""."""
    text = _message(members(response.content))
    for secret in sorted({*secrets, *_sent_secrets(response)}, key=len, reverse=True):
        if len(secret) > 3:
            text = text.replace(secret, "***")
    return shown(_HIDDEN.sub("***", text))


def quoted(response: httpx.Response, secrets: Iterable[str] = ()) -> str:
    """Return the service's own error as an addition to a sentence, or ""."""
    text = message(response, secrets)
    return f' (it answered "{text}")' if text else ""


def shown(text: str) -> str:
    """Return foreign text on one line, shortened, with control and invisible characters escaped."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in line
    )


def _message(given: dict[str, Any]) -> str:
    for part in (given.get("error"), _first(given.get("errors")), given):
        if isinstance(part, dict) and (text := _of_object(part)):
            return text
    # OAuth has a code in `error`, and some services a list of texts.
    for part in (given.get("error"), _first(given.get("errors"))):
        if isinstance(part, str) and part.strip():
            return part
    return ""


def _of_object(part: dict[str, Any]) -> str:
    text = next((part[key] for key in _TEXTS if _is_text(part.get(key))), "")
    code = part.get("error") if _is_text(part.get("error")) else None
    code = code or next((part[key] for key in _CODES if _is_code(part.get(key))), "")
    return f"{code}: {text}" if code and text and code != text else str(text or "")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_code(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _first(errors: Any) -> Any:
    if isinstance(errors, dict):  # Opsgenie: field -> text
        return next((f"{key}: {text}" for key, text in errors.items()), None)
    return errors[0] if isinstance(errors, list) and errors else None


def _sent_secrets(response: httpx.Response) -> list[str]:
    """Return the credentials in the request of a response, which may repeat them."""
    try:
        request = response.request
    except RuntimeError:  # made by hand
        return []
    found = [request.headers.get(name, "").rpartition(" ")[2] for name in _SECRET_HEADERS]
    with suppress(httpx.RequestNotRead, ValueError):
        if b"grant_type=" in request.content:
            form = parse_qs(request.content.decode("ascii", "replace"))
            found += [value for key in _FORM_SECRETS for value in form.get(key, ())]
    return found
