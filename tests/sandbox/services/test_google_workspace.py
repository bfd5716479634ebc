"""Google's Reports API over real sockets: pages, windows and sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest

from sandbox import tokens
from sandbox.server import Running
from sandbox.services import google_workspace
from tests.sandbox.okta_reader import iso
from tests.sandbox.registrations import REPORTS
from tests.sandbox.setups import ANCHOR

READ_ONLY = "https://www.googleapis.com/auth/admin.reports.audit.readonly"


def grant(box: Running, **changes: Any) -> httpx.Response:
    now = int(ANCHOR.timestamp())
    claims = {
        "iss": google_workspace.CLIENT,
        "sub": google_workspace.SUBJECT,
        "aud": "https://oauth2.googleapis.com/token",
        "scope": READ_ONLY,
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    signed = jwt.encode(claims, tokens.rsa_key("google_workspace"), algorithm="RS256")
    fields = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": signed}
    return httpx.post(f"{box.base_url}/google_workspace/token", data=fields)


@pytest.fixture(scope="module")
def google(box: Running) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {grant(box).json()['access_token']}"}
    with httpx.Client(base_url=f"{box.base_url}/google_workspace", headers=headers) as client:
        yield client


def reason(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["errors"][0]["reason"]


def test_pages_return_every_activity_once_newest_first(box: Running, google: httpx.Client) -> None:
    params: dict[str, str] = {"maxResults": "40"}
    found: list[dict[str, Any]] = []
    while True:
        page = google.get(f"{REPORTS}/login", params=params).json()
        found += page.get("items", [])
        if "nextPageToken" not in page:
            break
        params["pageToken"] = page["nextPageToken"]
    times = [activity["id"]["time"] for activity in found]
    assert times == sorted(times, reverse=True)
    names = {activity["id"]["uniqueQualifier"] for activity in found}
    issued = box.sandbox.ledger("google_workspace", "login")
    assert len(names) == len(found) == len(issued) > 100


def test_an_empty_page_has_no_items(google: httpx.Client) -> None:
    window = {"startTime": iso(ANCHOR - timedelta(days=60)), "endTime": "2026-09-20"}
    page = google.get(f"{REPORTS}/login", params=window).json()
    assert page.keys() == {"kind", "etag"}


def test_activities_are_selected_by_user_event_and_address(google: httpx.Client) -> None:
    path = f"{REPORTS}/login".replace("/all/", "/{}/")
    failed = google.get(path.format("all"), params={"eventName": "login_failure"}).json()["items"]
    assert {event["name"] for one in failed for event in one["events"]} == {"login_failure"}
    email, address = failed[0]["actor"]["email"], failed[0]["ipAddress"]
    mine = google.get(path.format(email), params={"actorIpAddress": address}).json()["items"]
    assert {(one["actor"]["email"], one["ipAddress"]) for one in mine} == {(email, address)}


@pytest.mark.parametrize(
    ("application", "params"),
    [
        ("login", {"maxResults": "0"}),
        ("login", {"maxResults": "1001"}),
        ("login", {"maxResults": "many"}),
        ("login", {"pageToken": "A:made-up"}),
        ("login", {"startTime": "2027-01-01T00:00:00Z"}),
        ("login", {"startTime": "2026-11-02T00:00:00Z", "endTime": "2026-11-01T00:00:00Z"}),
        ("login", {"startDate": "2026-11-01"}),
        ("login", {"customerId": "C0other"}),
        ("unknown", {}),
        ("gmail", {}),
        ("gmail", {"startTime": "2026-09-01T00:00:00Z", "endTime": "2026-11-01T00:00:00Z"}),
    ],
)
def test_an_invalid_query_is_refused(
    google: httpx.Client, application: str, params: dict[str, str]
) -> None:
    refused = google.get(f"{REPORTS}/{application}", params=params)
    assert reason(refused) == (400, "invalidParameter")


def test_a_user_without_the_privilege_gets_a_token_and_then_a_401(box: Running) -> None:
    token = grant(box, sub=google_workspace.UNPRIVILEGED).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{box.base_url}/google_workspace{REPORTS}/login"
    refused = httpx.get(url, headers=headers)
    assert reason(refused) == (401, "authError")
    assert "Access denied" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"scope": "https://www.googleapis.com/auth/drive"}, 401, "unauthorized_client"),
        ({"sub": "nobody@larkfield.example"}, 400, "invalid_grant"),
        ({"iss": "another@project.example"}, 400, "invalid_grant"),
        ({"aud": "https://elsewhere.example/token"}, 400, "invalid_grant"),
        ({"exp": int(ANCHOR.timestamp()) - 1}, 400, "invalid_grant"),
    ],
)
def test_a_defective_assertion_gets_no_token(
    box: Running, changes: dict[str, Any], status: int, error: str
) -> None:
    refused = grant(box, **changes)
    assert (refused.status_code, refused.json()["error"]) == (status, error)
