"""Errors in the words of Okta's API."""

from __future__ import annotations

import json

from sandbox.services.okta_refusals import Refusal


def test_an_error_has_oktas_members_and_the_headers_of_both_sides() -> None:
    refusal = Refusal(
        400, "E0000001", "Api validation failed", causes=["limit: too large"], headers={"B": "2"}
    )
    response = refusal.response({"A": "1", "B": "1"})
    body = json.loads(response.body)
    assert response.status_code == 400
    assert (response.headers["A"], response.headers["B"]) == ("1", "2")
    assert body.pop("errorId").startswith("oae")
    assert body == {
        "errorCode": "E0000001",
        "errorSummary": "Api validation failed",
        "errorLink": "E0000001",
        "errorCauses": [{"errorSummary": "limit: too large"}],
    }


def test_every_error_has_an_id_of_its_own() -> None:
    refusal = Refusal(404, "E0000007", "Not found")
    ids = {json.loads(refusal.response({}).body)["errorId"] for _ in range(20)}
    assert len(ids) == 20
