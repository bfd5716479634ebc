"""Microsoft Graph's audit log reports over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox import microsoft
from sandbox.server import Running
from sandbox.services import entra_id

SIGN_INS = "/v1.0/auditLogs/signIns"


def token(base_url: str, client_id: str = microsoft.CLIENT_ID) -> str:
    fields = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": microsoft.CLIENT_SECRET,
        "scope": f"{entra_id.GRAPH}/.default",
    }
    url = f"{base_url}/entra_id/login/{microsoft.TENANT_ID}/oauth2/v2.0/token"
    return str(httpx.post(url, data=fields).json()["access_token"])


@pytest.fixture(scope="module")
def graph(box: Running) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token(box.base_url)}"}
    with httpx.Client(base_url=f"{box.base_url}/entra_id", headers=headers) as client:
        yield client


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_pages_of_a_report_return_every_record_once_newest_first(
    box: Running, graph: httpx.Client
) -> None:
    found: list[dict[str, Any]] = []
    link: str | None = f"{SIGN_INS}?$top=50"
    while link:
        page = graph.get(link).json()
        found += page["value"]
        link = page.get("@odata.nextLink")
    ids = [record["id"] for record in found]
    assert sorted(ids) == sorted(entry.id for entry in box.sandbox.ledger("entra_id", "sign_ins"))
    times = [record["createdDateTime"][:23] for record in found]
    assert len(found) > 100
    assert times == sorted(times, reverse=True)


def test_a_skip_token_belongs_to_its_query(graph: httpx.Client) -> None:
    link = httpx.URL(graph.get(f"{SIGN_INS}?$top=50").json()["@odata.nextLink"])
    place = link.params["$skiptoken"]
    other = {"$top": "60", "$skiptoken": place}
    assert code(graph.get(SIGN_INS, params=other)) == (400, "BadRequest")
    for made_up in ("x", "00", "7b7d_1", ""):
        wrong = {"$top": "50", "$skiptoken": made_up}
        assert code(graph.get(SIGN_INS, params=wrong)) == (400, "BadRequest")


def test_a_record_is_found_by_its_id_in_any_kind_of_sign_in(
    box: Running, graph: httpx.Client
) -> None:
    wanted = box.sandbox.ledger("entra_id", "managed_identity_sign_ins")[0].id
    assert graph.get(f"{SIGN_INS}/{wanted}").json()["id"] == wanted
    assert code(graph.get(f"{SIGN_INS}/unknown")) == (404, "ResourceNotFound")


def test_paths_are_case_insensitive_and_others_unknown(graph: httpx.Client) -> None:
    assert graph.get("/v1.0/auditlogs/SIGNINS?$top=1").status_code == 200
    for path in ("/v1.0/auditLogs/other", "/v1.0/users", "/v1.0/other/signIns"):
        assert code(graph.get(path)) == (404, "ResourceNotFound")


@pytest.mark.parametrize(
    ("client_id", "report", "expected"),
    [
        (entra_id.NO_ROLES_CLIENT_ID, "signIns", "Authentication_MSGraphPermissionMissing"),
        (
            entra_id.UNLICENSED_CLIENT_ID,
            "signIns",
            "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
        ),
        (entra_id.UNLICENSED_CLIENT_ID, "directoryAudits", None),
    ],
)
def test_permissions_and_licences_are_checked(
    box: Running, client_id: str, report: str, expected: str | None
) -> None:
    headers = {"Authorization": f"Bearer {token(box.base_url, client_id)}"}
    url = f"{box.base_url}/entra_id/v1.0/auditLogs/{report}"
    response = httpx.get(url, headers=headers)
    if expected is None:
        assert response.status_code == 200
    else:
        assert code(response) == (403, expected)


def test_only_a_response_of_beta_is_marked_as_deprecated(graph: httpx.Client) -> None:
    assert "deprecation" in graph.get("/beta/auditLogs/signIns?$top=1").headers["Link"]
    assert "Link" not in graph.get(f"{SIGN_INS}?$top=1").headers
