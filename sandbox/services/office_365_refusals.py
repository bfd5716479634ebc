"""Errors of the Office 365 Management Activity API."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

HEADERS = {"Pragma": "no-cache", "Cache-Control": "no-cache", "Expires": "-1"}
"""The headers of every response."""


class Refusal(Exception):
    """An error response of the API."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self._status, self._code, self._message = status, code, message

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        body = {"error": {"code": self._code, "message": self._message}}
        return JSONResponse(body, self._status, {**HEADERS, **(headers or {})})
