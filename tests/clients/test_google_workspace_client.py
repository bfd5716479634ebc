"""Google's own client and sign-in read the simulated Workspace without complaint."""

import json
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("googleapiclient", reason="make test-clients installs it")

from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Options
from sandbox.services import google_workspace
from tests.sandbox.receivers import receiving

KIND = "google_workspace"
SCOPE = "https://www.googleapis.com/auth/admin.reports.audit.readonly"
pytestmark = pytest.mark.clients


@pytest.fixture
def box():
    with server.running(Options(seed=5, days=12, per_day=400, rate=0)) as running:
        yield running


@pytest.fixture
def connect(box):
    """Yield a factory of clients that act for a user, and close them at the end."""
    clients = []

    def connected(subject=google_workspace.SUBJECT):
        return reports(subject).activities()

    def reports(subject=google_workspace.SUBJECT):
        base_url = f"{box.base_url}/{KIND}"
        key = json.loads(google_workspace.settings(base_url)["credentials"])
        credentials = service_account.Credentials.from_service_account_info(
            key, scopes=[SCOPE], subject=subject
        )
        options = {"api_endpoint": base_url}
        clients.append(
            build("admin", "reports_v1", credentials=credentials, client_options=options)
        )
        return clients[-1]

    connected.reports = reports
    yield connected
    for client in clients:
        client.close()


def read(activities, **query):
    request = activities.list(**{"userKey": "all", "applicationName": "login", **query})
    found = []
    while request is not None:
        answer = request.execute(num_retries=2)
        found += answer.get("items", [])
        request = activities.list_next(request, answer)
    return found


def issued(box, application="login"):
    return [entry.id for entry in box.sandbox.ledger(KIND, application)]


def name(record):
    identity = record["id"]
    names = ("customerId", "applicationName", "time", "uniqueQualifier")
    return "/".join(identity[one] for one in names)


def test_an_application_is_read_to_its_end_newest_first(box, connect):
    found = read(connect(), maxResults=100)
    assert sorted(map(name, found)) == sorted(issued(box))
    assert len(found) > 300
    times = [record["id"]["time"] for record in found]
    assert times == sorted(times, reverse=True)


def test_the_client_reads_every_application(box, connect):
    """All are queried with both ends, at most 30 days apart, as gmail requires."""
    now, activities = datetime.now(UTC), connect()
    window = {"startTime": (now - timedelta(days=20)).isoformat(), "endTime": now.isoformat()}
    for stream in google_workspace.SERVICE.streams:
        found = read(activities, applicationName=stream.name, **window)
        assert len(found) == len(issued(box, stream.name))


def test_a_span_without_activities_has_no_items(connect):
    window = {"startTime": "2001-01-01T00:00:00Z", "eventName": "no_such_event"}
    answer = connect().list(userKey="all", applicationName="login", **window).execute()
    assert "items" not in answer


def test_the_client_selects_by_user_and_by_event(connect):
    activities = connect()
    (first, *_) = read(activities, eventName="login_success")
    of_one = read(activities, userKey=first["actor"]["email"])
    assert {record["actor"]["profileId"] for record in of_one} == {first["actor"]["profileId"]}
    assert first in of_one


def test_the_client_retries_after_an_exhausted_quota(box, connect):
    box.sandbox.order([Fault(kind=KIND, fault="status", status=429, at=[1], retry_after=0)])
    assert len(read(connect())) == len(issued(box))


def test_a_user_without_the_privilege_gets_a_token_and_no_list(connect):
    with pytest.raises(HttpError, match="not authorized to read activity records") as error:
        read(connect(google_workspace.UNPRIVILEGED))
    assert error.value.status_code == 401


def test_the_client_opens_a_channel_and_stops_it(connect):
    reports = connect.reports()
    with receiving() as receiver:
        asked = {"id": "channel-1", "type": "web_hook", "address": receiver.url, "token": "t"}
        channel = (
            reports.activities()
            .watch(userKey="all", applicationName="login", body={**asked, "payload": True})
            .execute()
        )
        assert [got.headers["x-goog-resource-state"] for got in receiver.got] == ["sync"]
    ids = {"id": channel["id"], "resourceId": channel["resourceId"]}
    assert reports.channels().stop(body=ids).execute() in ("", {})
    with pytest.raises(HttpError, match="Channel not found"):
        reports.channels().stop(body=ids).execute()
