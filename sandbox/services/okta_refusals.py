"""Errors of Okta's API.

https://developer.okta.com/docs/reference/error-codes/
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse, Response


class Refusal(Exception):
    """An error response of Okta."""

    def __init__(
        self,
        status: int,
        code: str,
        summary: str,
        *,
        causes: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(summary)
        self._status, self._code, self._summary = status, code, summary
        self._causes, self._headers = causes, headers or {}

    def response(self, headers: Mapping[str, str]) -> Response:
        body = {
            "errorCode": self._code,
            "errorSummary": self._summary,
            "errorLink": self._code,
            "errorId": f"oae{uuid.uuid4().hex[:22]}",
            "errorCauses": [{"errorSummary": cause} for cause in self._causes],
        }
        return JSONResponse(body, self._status, {**headers, **self._headers})
