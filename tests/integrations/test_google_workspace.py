"""Google's own ways: absent items, a 403 that means later, one activity with several events."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipelines import extract, http, registry
from pipelines.errors import ConfigurationError
from pipelines.http import Patience
from pipelines.integrations import google_workspace
from pipelines.sandbox.faults import Fault

KIND = "google_workspace"


def walk(world, answer, application="login"):
    """Records and requests of a walk whose requests, but the sign-in, `answer` answers."""
    source, asked = world.source(KIND, applications=[application]), []
    (stream,) = source.streams()

    def handle(request):
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3599})
        asked.append(request)
        return answer(request, len(asked))

    now = datetime(2026, 5, 1, tzinfo=UTC)
    transport, patience = httpx.MockTransport(handle), Patience(attempts=3, first=0.001)
    pace = http.Pace(
        source.integration.manners, sleep=lambda _: None, clock=iter(range(9**6)).__next__
    )
    with http.client(source, transport=transport, patience=patience, pace=pace) as client:
        cursor = stream.begin(now - timedelta(days=5), now)
        found = [r for page in stream.pages(client, cursor, now) for r in page.records]
    return found, asked


def test_an_answer_without_items_is_an_empty_page(still_world):
    found, asked = walk(still_world, lambda *_: httpx.Response(200, json={"kind": "x"}))
    assert found == []
    for request in asked:
        assert request.url.params["endTime"] > request.url.params["startTime"]
        assert request.url.params["customerId"] == "my_customer"


def test_a_page_token_stays_in_its_window(still_world):
    def answer(request, number):
        if number == 1:
            return httpx.Response(200, json={"nextPageToken": "A:1", "items": [{"id": {}}]})
        assert (request.url.params.get("pageToken") == "A:1") == (number == 2)
        return httpx.Response(200, json={})

    assert len(walk(still_world, answer)[0]) == 1


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
def test_a_403_that_means_later_is_asked_again(still_world, reason):
    body = {"error": {"code": 403, "errors": [{"domain": "usageLimits", "reason": reason}]}}
    found, asked = walk(
        still_world,
        lambda _, n: httpx.Response(403 if n == 1 else 200, json=body if n == 1 else {}),
    )
    assert found == []
    assert len(asked) >= 2


@pytest.mark.parametrize(
    ("status", "said"), [(401, "privilege Reports"), (403, "may not read this application's log")]
)
def test_a_refusal_is_final_and_says_what_to_do(still_world, status, said):
    still_world.disorder(
        Fault(kind=KIND, fault="status", status=status, path="applications/drive", every=True)
    )
    source = still_world.source(KIND, applications=["drive", "login"], history="5d")
    drive, login = extract.poll(still_world.lake, [source])
    assert said in drive.error
    assert login.error is None


def test_events_of_one_activity_are_rows_of_one_record(still_world):
    source = still_world.source(KIND, applications=["drive"], history="5d")
    extract.poll(still_world.lake, [source])
    raw, events = still_world.stored(KIND, "drive"), still_world.events(KIND, "drive")
    held = [len(json.loads(record)["events"]) for record in raw["raw"]]
    assert max(held) == 2
    assert events.height == sum(held)
    assert set(events["seq"]) == set(raw["seq"])


def test_the_qualifier_is_no_identity_of_its_own():
    identity = google_workspace._identity
    assert identity("C", "login", "1", "7") != identity("C", "login", "2", "7")
    assert identity("C", "login", None, "7") is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"applications": ["logn"]}, "'logn' is not one of"),
        ({"credentials": '{"type": "service_account"}'}, "not the JSON key file"),
        ({"credentials": "/no/such/key.json"}, "cannot read /no/such/key.json"),
    ],
)
def test_a_fault_in_the_settings_names_its_key(still_world, keys, said):
    with pytest.raises(ConfigurationError, match=said.replace("(", "\\(")):
        still_world.source(KIND, **keys)


def test_a_wrong_subject_and_a_wrong_key_are_told_apart(still_world):
    (wrong,) = extract.poll(
        still_world.lake,
        [still_world.source(KIND, subject="nobody@else.example", applications=["login"])],
    )
    assert "subject is no user" in wrong.error


def test_each_application_has_its_own_lag():
    every = google_workspace.APPLICATIONS
    keys = {"credentials": "{}", "subject": "x", "applications": every}
    assert len(every) == 42
    lags = {name: google_workspace._stream(name, "C").lag for name in keys["applications"]}
    assert lags["token"] > lags["login"] > lags["admin"]
    assert registry.kind(KIND).streams(None)[0].name == "admin"
