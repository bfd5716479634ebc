"""Errors in the words of the Office 365 Management Activity API."""

from __future__ import annotations

import json

from sandbox.services.office_365_refusals import HEADERS, Refusal


def test_an_error_has_microsofts_code_and_is_never_cached() -> None:
    response = Refusal(404, "AF20050", "The content does not exist.").response({"X-Extra": "1"})
    assert response.status_code == 404
    assert json.loads(response.body) == {
        "error": {"code": "AF20050", "message": "The content does not exist."}
    }
    assert (
        HEADERS.items() <= {name.title(): value for name, value in response.headers.items()}.items()
    )
    assert response.headers["x-extra"] == "1"
