"""Errors of Microsoft Graph, and the headers that every response carries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime

from starlette.responses import JSONResponse, Response

THROTTLED = "This request is throttled. Please try again after some time."


class Refusal(Exception):
    """An error response of Graph."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self._status, self._code, self._message = status, code, message
        self._headers = headers or {}

    def response(self, now: datetime) -> Response:
        headers = {**response_headers(), **self._headers}
        inner = {
            "date": f"{now:%Y-%m-%dT%H:%M:%S}",
            "request-id": headers["request-id"],
            "client-request-id": headers["request-id"],
        }
        body = {"error": {"code": self._code, "message": self._message, "innerError": inner}}
        return JSONResponse(body, self._status, headers)


def refusal(status: int, now: datetime, retry_after: float) -> Response:
    """Return Graph's error response for a status."""
    code, message = {
        401: ("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
        403: ("Authorization_RequestDenied", "Insufficient privileges to complete the operation."),
        404: ("ResourceNotFound", "Resource not found."),
        429: ("TooManyRequests", THROTTLED),
    }.get(status, ("UnknownError", ""))
    headers = {"Retry-After": f"{retry_after:.0f}"} if status == 429 else {}
    return Refusal(status, code, message, headers).response(now)


def response_headers() -> dict[str, str]:
    request_id = str(uuid.uuid4())
    diagnostic = {"ServerInfo": {"DataCenter": "West Europe", "Slice": "E", "Ring": "5"}}
    return {
        "request-id": request_id,
        "client-request-id": request_id,
        "x-ms-ags-diagnostic": json.dumps(diagnostic),
    }
