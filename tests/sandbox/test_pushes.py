"""Pushes of the simulated services, over real sockets, to a receiver that may refuse them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest

from pipelines import registry
from sandbox import server
from sandbox.faults import Mishap
from sandbox.pushes import Attempt
from sandbox.server import Options, Running, Sandbox
from sandbox.service import Webhook
from sandbox.services import cloudflare, office_365
from tests.sandbox.receivers import Receiver, receiving, taken

ANCHOR = datetime.now(UTC).replace(microsecond=0)
OPTIONS = Options(seed=7, days=2, per_day=60, rate=0, anchor=ANCHOR, pace=0.005)
SECRET = "a-shared-secret-of-play"
SECONDS = 300
"""The longest wait for deliveries."""


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = ANCHOR

    def __call__(self) -> datetime:
        return self.now


@cache
def plain() -> httpx.Client:
    """A client for the sandbox's control API."""
    return httpx.Client(trust_env=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def box(clock: Clock) -> Iterator[Running]:
    with server.running(OPTIONS, clock) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Sandbox:
    """Another company, whose records are new to the first one's services."""
    return Sandbox(Options(seed=8, days=20, per_day=60, rate=0, anchor=ANCHOR))


@pytest.fixture
def happen(box: Running, elsewhere: Sandbox) -> Callable[..., list[bytes]]:
    def happened(kind: str, stream: str, count: int, start: int = 0) -> list[bytes]:
        """Add `count` records that arrive now, wait for their pushes, and return their bytes."""
        found = [r.raw for r in elsewhere.log(kind, stream).visible()[start : start + count]]
        box.sandbox.append(kind, stream, found)
        assert box.sandbox.courier.settle(SECONDS)
        return found

    return happened


@pytest.fixture
def signed_in(box: Running) -> Iterator[Callable[[str], httpx.Client]]:
    clients: list[httpx.Client] = []

    def client(kind: str) -> httpx.Client:
        source = registry.source(kind, box.settings()[kind])
        auth = source.integration.auth(source.settings)
        clients.append(httpx.Client(base_url=source.settings.base_url, auth=auth, timeout=30))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


def fates(box: Running, kind: str) -> list[tuple[str, str, int | None]]:
    return [(a.what, a.fate, a.status) for a in box.sandbox.attempts(kind)]


def carried(attempts: list[Attempt]) -> list[str]:
    return [each.id for attempt in attempts for each in attempt.carries]


# Okta


def hook(uri: str, items: list[str]) -> dict[str, Any]:
    return {
        "name": "auditlake",
        "events": {"type": "EVENT_TYPE", "items": items},
        "channel": {
            "type": "HTTP",
            "version": "1.0.0",
            "config": {
                "uri": uri,
                "headers": [{"key": "X-Other", "value": "one more"}],
                "authScheme": {"type": "HEADER", "key": "Authorization", "value": SECRET},
            },
        },
    }


HOOKS = "/api/v1/eventHooks"
TYPES = ["user.session.start", "user.authentication.sso"]


def hooked(client: httpx.Client, receiver: Receiver) -> dict[str, Any]:
    made = client.post(HOOKS, json=hook(f"{receiver.url}/okta", TYPES)).json()
    verified = client.post(f"{HOOKS}/{made['id']}/lifecycle/verify").json()
    assert verified["verificationStatus"] == "VERIFIED"
    return dict(verified)


def test_a_verified_event_hook_receives_its_event_types(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("okta")
    made = client.post(HOOKS, json=hook(f"{receiver.url}/okta", TYPES)).json()
    assert (made["status"], made["verificationStatus"]) == ("ACTIVE", "UNVERIFIED")
    assert SECRET not in json.dumps(made)
    happen("okta", "system_log", 40)
    assert receiver.got == []
    client.post(f"{HOOKS}/{made['id']}/lifecycle/verify")
    (challenge,) = receiver.got
    assert challenge.method == "GET"
    assert "authorization" not in challenge.headers
    raws = happen("okta", "system_log", 120, 40)
    wanted = [json.loads(raw) for raw in raws if json.loads(raw)["eventType"] in TYPES]
    pushed = receiver.bodies()
    events = [event for got in pushed for event in got.json()["data"]["events"]]
    polled = {event["uuid"]: event for event in wanted}
    assert sorted(event["uuid"] for event in events) == sorted(polled)
    assert len(wanted) > 10
    for event in events:
        assert event["client"].pop("ipChain") == polled[event["uuid"]].pop("request")["ipChain"]
        assert event.pop("insertionTimestamp", "") is None
        assert event == polled[event["uuid"]]
    assert {got.headers["authorization"] for got in pushed} == {SECRET}
    assert {got.headers["x-other"] for got in pushed} == {"one more"}
    assert pushed[0].json()["source"].endswith(f"{HOOKS}/{made['id']}")
    assert len({got.json()["eventId"] for got in pushed}) == len(pushed)
    delivered = [a for a in box.sandbox.attempts("okta") if a.what == "events"]
    assert sorted(carried(delivered)) == sorted(polled)


def test_an_endpoint_that_does_not_return_the_challenge_is_not_verified(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("okta")
    receiver.reply = lambda _: (200, b'{"verification":"of another"}')
    made = client.post(HOOKS, json=hook(f"{receiver.url}/okta", TYPES)).json()
    refused = client.post(f"{HOOKS}/{made['id']}/lifecycle/verify")
    assert (refused.status_code, refused.json()["errorCode"]) == (400, "E0000001")
    receiver.reply = lambda _: (503, b"")
    assert client.post(f"{HOOKS}/{made['id']}/lifecycle/verify").status_code == 400
    assert len(receiver.got) == 3  # one retry after an error
    happen("okta", "system_log", 40)
    assert len(receiver.got) == 3


def test_a_hook_is_changed_switched_off_and_deleted_as_okta_does(
    receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("okta")
    made = hooked(client, receiver)
    at = f"{HOOKS}/{made['id']}"
    assert [each["id"] for each in client.get(HOOKS).json()] == [made["id"]]
    renamed = {**hook(f"{receiver.url}/okta", TYPES), "name": "renamed"}
    assert client.put(at, json=renamed).json()["verificationStatus"] == "VERIFIED"
    moved = client.put(at, json=hook(f"{receiver.url}/elsewhere", TYPES)).json()
    assert moved["verificationStatus"] == "UNVERIFIED"
    assert client.delete(at).status_code == 400
    assert client.post(f"{at}/lifecycle/deactivate").json()["status"] == "INACTIVE"
    client.post(f"{at}/lifecycle/verify")
    happen("okta", "system_log", 40)
    assert receiver.bodies() == []
    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 404


@pytest.mark.parametrize("items", [["policy.evaluate_sign_on"], [], ["everything"]])
def test_only_eligible_types_can_be_subscribed_to(
    receiver: Receiver, signed_in: Any, items: list[str]
) -> None:
    refused = signed_in("okta").post(HOOKS, json=hook(receiver.url, items))
    assert refused.status_code == 400
    assert "events.items" in refused.json()["errorCauses"][0]["errorSummary"]


@pytest.mark.parametrize("tried", [(500, 2), (404, 1), (204, 1)])
def test_okta_retries_once_and_never_after_a_4xx(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any, tried: tuple[int, int]
) -> None:
    status, attempts = tried
    hooked(signed_in("okta"), receiver)
    receiver.reply = lambda _: (status, b"")
    raws = happen("okta", "system_log", 60)
    deliveries = Counter(a.delivery for a in box.sandbox.attempts("okta") if a.what == "events")
    assert raws
    assert set(deliveries.values()) == {attempts}
    last = box.sandbox.attempts("okta")[-1]
    assert (last.fate, last.status) == ("delivered" if status == 204 else "given up", status)


# Office 365

FEED = f"/api/v1.0/{office_365.microsoft.TENANT_ID}/activity/feed"


def start(client: httpx.Client, address: str | None, **more: Any) -> httpx.Response:
    webhook = {"address": address, "authId": SECRET, **more}
    return client.post(
        f"{FEED}/subscriptions/start",
        params={"contentType": "Audit.Exchange"},
        json={"webhook": webhook} if address else None,
    )


def test_office_365_validates_a_webhook_and_notifies_it_of_blobs(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any, clock: Clock
) -> None:
    client = signed_in("office_365")
    started = start(client, f"{receiver.url}/o365").json()
    assert started["webhook"] == {
        "status": "enabled",
        "address": f"{receiver.url}/o365",
        "authId": SECRET,
        "expiration": None,
    }
    (validation,) = receiver.got
    assert validation.json()["validationCode"] == validation.headers["webhook-validationcode"]
    raws = happen("office_365", "exchange", 60)
    items = [item for got in receiver.bodies()[1:] for item in got.json()]
    assert receiver.got[-1].headers["webhook-authid"] == SECRET
    assert receiver.got[-1].headers["content-type"] == "application/json; utf-8"
    assert set(items[0]) == {
        "tenantId", "clientId", "contentType", "contentId", "contentUri", "contentCreated",
        "contentExpiration",
    }  # fmt: skip
    found = [event for item in items for event in client.get(item["contentUri"]).json()]
    ids = {json.loads(raw)["Id"] for raw in raws}
    assert ids <= {event["Id"] for event in found}
    delivered = [a for a in box.sandbox.attempts("office_365") if a.fate == "delivered"]
    assert set(carried(delivered)) == ids
    clock.now += timedelta(seconds=1)
    listed = client.get(
        f"{FEED}/subscriptions/notifications", params={"contentType": "Audit.Exchange"}
    ).json()
    assert [item["notificationStatus"] for item in listed] == ["success"] * len(items)


def test_a_webhook_that_does_not_answer_200_is_not_subscribed(
    receiver: Receiver, signed_in: Any
) -> None:
    client = signed_in("office_365")
    receiver.reply = lambda _: (204, b"")
    refused = start(client, receiver.url)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "AF20021")
    assert client.get(f"{FEED}/subscriptions/list").json() == []
    past = start(client, receiver.url, expiration="2020-01-01T00:00:00")
    assert past.json()["error"]["code"] == "AF20003"


def test_a_failing_webhook_is_disabled_and_a_start_enables_it_again(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("office_365")
    start(client, receiver.url)
    receiver.reply = lambda _: (201, b"")
    happen("office_365", "exchange", 5)
    assert [status for what, _, status in fates(box, "office_365") if what == "notification"] == [
        201
    ] * 6
    (listed,) = client.get(f"{FEED}/subscriptions/list").json()
    assert listed["webhook"]["status"] == "disabled"
    happen("office_365", "exchange", 5, 5)
    assert len(receiver.got) == 7
    receiver.reply = taken
    assert start(client, receiver.url).json()["webhook"]["status"] == "enabled"
    assert start(client, receiver.url).json()["error"]["code"] == "AF20024"
    happen("office_365", "exchange", 5, 10)
    assert fates(box, "office_365")[-1] == ("notification", "delivered", 200)
    assert start(client, None).json()["webhook"] is None
    before = len(receiver.got)
    happen("office_365", "exchange", 5, 15)
    assert len(receiver.got) == before


# Google

REPORTS = "/admin/reports/v1/activity/users/all/applications"


def watch(client: httpx.Client, receiver: Receiver, id_: str, **more: Any) -> httpx.Response:
    channel = {"id": id_, "type": "web_hook", "address": f"{receiver.url}/google", "token": SECRET}
    return client.post(f"{REPORTS}/login/watch", json={**channel, **more})


def test_a_channel_gets_a_sync_message_and_activities_until_it_is_stopped(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("google_workspace")
    channel = watch(client, receiver, "channel-1").json()
    assert channel["kind"] == "api#channel"
    (sync,) = receiver.got
    assert sync.headers["x-goog-resource-state"] == "sync"
    assert sync.headers["x-goog-message-number"] == "1"
    assert sync.body == b""
    raws = happen("google_workspace", "login", 8)
    pushed = receiver.bodies()
    assert sorted(got.body for got in pushed) == sorted(raws)
    for got in pushed:
        assert got.headers["x-goog-channel-id"] == "channel-1"
        assert got.headers["x-goog-channel-token"] == SECRET
        assert got.headers["x-goog-resource-id"] == channel["resourceId"]
        assert got.headers["x-goog-resource-uri"].endswith("applications/login?alt=json")
        assert got.headers["x-goog-resource-state"] == got.json()["events"][0]["name"]
        assert "APIs-Google" in got.headers["user-agent"]
    assert len({got.headers["x-goog-message-number"] for got in receiver.got}) == 9
    ids = {"id": "channel-1", "resourceId": channel["resourceId"]}
    stop = "/admin/reports_v1/channels/stop"
    assert client.post(stop, json={**ids, "resourceId": "another"}).status_code == 404
    assert client.post(stop, json=ids).status_code == 204
    happen("google_workspace", "login", 8, 8)
    assert len(receiver.got) == 9


def test_a_channel_lives_six_hours_at_most_and_ends_by_itself(
    receiver: Receiver, happen: Any, signed_in: Any, clock: Clock
) -> None:
    client = signed_in("google_workspace")
    longest = str(int((ANCHOR + timedelta(hours=6)).timestamp() * 1000))
    week = str(int((ANCHOR + timedelta(days=7)).timestamp() * 1000))
    assert watch(client, receiver, "a").json()["expiration"] == longest
    assert watch(client, receiver, "b", expiration=week).json()["expiration"] == longest
    assert watch(client, receiver, "a").status_code == 400
    happen("google_workspace", "login", 1)
    assert len(receiver.bodies()) == 2
    clock.now += timedelta(hours=6)
    happen("google_workspace", "login", 1, 1)
    assert len(receiver.bodies()) == 2


@pytest.mark.parametrize("tried", [(503, 6), (500, 6), (404, 1), (202, 1)])
def test_google_retries_after_some_errors_only(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any, tried: tuple[int, int]
) -> None:
    status, attempts = tried
    watch(signed_in("google_workspace"), receiver, "channel")
    receiver.reply = lambda _: (status, b"")
    happen("google_workspace", "login", 1)
    assert [s for what, _, s in fates(box, "google_workspace") if what == "activity"] == [
        status
    ] * attempts


# Cloudflare

JOBS = f"/accounts/{cloudflare.ACCOUNT_ID}/logpush/jobs"


def job(receiver: Receiver, dataset: str = "audit_logs", **more: Any) -> dict[str, Any]:
    destination = f"{receiver.url}/logs?header_Authorization=Basic%20{SECRET}&tags=a"
    return {"dataset": dataset, "destination_conf": destination, "enabled": True, **more}


def test_logpush_uploads_a_test_and_then_gzipped_lines(
    box: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("cloudflare")
    made = client.post(JOBS, json=job(receiver)).json()
    assert made["success"], made
    (test,) = receiver.got
    assert gzip.decompress(test.body) == b'{"content":"tests"}'
    raws = [json.loads(raw) for raw in happen("cloudflare", "audit_logs", 30)]
    batches = receiver.bodies()[1:]
    lines = [json.loads(line) for got in batches for line in gzip.decompress(got.body).splitlines()]
    assert [line["ID"] for line in lines] == [raw["id"] for raw in raws]
    assert lines[0]["ActionType"] == raws[0]["action"]["type"]
    when = datetime.fromisoformat(raws[0]["when"])
    assert lines[0]["When"] == round(when.timestamp() * 1000) * 1_000_000
    for got in receiver.got:
        assert got.path == "/logs?tags=a"
        assert got.headers["authorization"] == f"Basic {SECRET}"
        assert got.headers["content-encoding"] == "gzip"
    assert fates(box, "cloudflare") == [("test", "delivered", 200), ("batch", "delivered", 200)]


def test_a_logpush_job_has_fields_and_formats_and_can_be_switched_off(
    receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("cloudflare")
    output = {
        "field_names": ["AuditLogID", "ActionTimestamp", "ActorTokenDetails"],
        "timestamp_format": "rfc3339",
    }
    made = client.post(JOBS, json=job(receiver, "audit_logs_v2", output_options=output)).json()
    raws = [json.loads(raw) for raw in happen("cloudflare", "audit_logs_v2", 30)]
    lines = gzip.decompress(receiver.got[1].body).splitlines()
    first = json.loads(lines[0])
    assert set(first) == {"AuditLogID", "ActionTimestamp", "ActorTokenDetails"}
    assert first["ActionTimestamp"] == raws[0]["action"]["time"]
    at = f"{JOBS}/{made['result']['id']}"
    assert client.put(at, json={"enabled": False}).json()["result"]["enabled"] is False
    happen("cloudflare", "audit_logs_v2", 5, 30)
    client.put(at, json={"enabled": True})
    happen("cloudflare", "audit_logs_v2", 5, 35)
    lost = gzip.decompress(receiver.got[-1].body).splitlines()
    assert len(lost) == 5
    assert client.delete(at).json()["success"]
    assert client.get(JOBS).json()["result"] == []


def test_a_job_whose_test_upload_fails_is_not_created(receiver: Receiver, signed_in: Any) -> None:
    client = signed_in("cloudflare")
    receiver.reply = lambda _: (415, b"")
    refused = client.post(JOBS, json=job(receiver)).json()
    assert "error uploading: 415" in refused["errors"][0]["message"]
    assert client.get(JOBS).json()["result"] == []


# Webhooks registered in a console


def console(box: Running, receiver: Receiver, kind: str, *events: str) -> httpx.Response:
    body = {
        "address": f"{receiver.url}/{kind}",
        "headers": {"Authorization": f"Basic {SECRET}"},
        "events": events,
    }
    return plain().post(f"{box.base_url}/_sandbox/webhooks/{kind}", json=body)


def test_atlassian_pushes_events_in_the_format_of_the_api(
    box: Running, receiver: Receiver, happen: Any
) -> None:
    made = [console(box, receiver, "atlassian").status_code for _ in range(4)]
    assert made == [201, 201, 201, 400]
    raws = happen("atlassian", "events", 70)
    bodies = Counter(got.body for got in receiver.got)
    assert set(bodies.values()) == {3}
    events = [event for body in bodies for event in json.loads(body)]
    # The three webhooks are served concurrently, so their pushes come in any order.
    assert sorted(e["id"] for e in events) == sorted(json.loads(raw)["id"] for raw in raws)
    assert {got.headers["authorization"] for got in receiver.got} == {f"Basic {SECRET}"}


def test_jumpcloud_pushes_selected_events_one_by_one_and_retries_three_times(
    box: Running, receiver: Receiver, happen: Any
) -> None:
    receiver.reply = lambda _: (429, b"")
    console(box, receiver, "jumpcloud", "sso_auth")
    raws = happen("jumpcloud", "directory_insights", 60)
    wanted = [raw for raw in raws if json.loads(raw)["event_type"] == "sso_auth"]
    assert Counter(got.body for got in receiver.got) == dict.fromkeys(wanted, 4)
    assert len(wanted) > 1


def test_opsgenie_pushes_alerts_before_its_log_shows_them(clock: Clock, receiver: Receiver) -> None:
    options = Options(seed=7, days=0, rate=20, anchor=ANCHOR)
    with server.running(options, clock) as box:
        made = console(box, receiver, "opsgenie").json()
        clock.now += timedelta(seconds=59)
        assert box.sandbox.courier.settle(SECONDS)
        assert box.sandbox.log("opsgenie", "logs").visible() == []
        pushed_alerts = [got.json() for got in receiver.got]
        assert {"Create", "Acknowledge"} <= {each["action"] for each in pushed_alerts}
        assert {len(str(each["alert"]["updatedAt"])) for each in pushed_alerts} == {19}
        ended = plain().delete(f"{box.base_url}/_sandbox/webhooks/opsgenie/{made['id']}")
        assert ended.status_code == 204
        clock.now += timedelta(hours=2)
        lines = box.sandbox.ledger("opsgenie", "logs")
    pushed = carried(box.sandbox.attempts("opsgenie"))
    assert len(pushed) == len(set(pushed))
    assert set(pushed) <= {line.id for line in lines}


# Mishaps


def mishaps(box: Running, *found: Mishap) -> None:
    body = [{name: getattr(each, name) for name in each.__struct_fields__} for each in found]
    assert plain().post(f"{box.base_url}/_sandbox/mishaps", json=body).status_code == 204


def test_pushes_are_lost_duplicated_and_reordered_by_seed(
    receiver: Receiver, elsewhere: Sandbox
) -> None:
    raws = [r.raw for r in elsewhere.log("jumpcloud", "directory_insights").visible()[:150]]

    def pushed(seed: int) -> tuple[list[bytes], Counter[str]]:
        receiver.got.clear()
        with server.running(OPTIONS, Clock()) as box:
            order = Mishap(kind="jumpcloud", lost=0.2, twice=0.1, late=0.3, seconds=0.3, seed=seed)
            mishaps(box, order)
            console(box, receiver, "jumpcloud")
            box.sandbox.append("jumpcloud", "directory_insights", raws)
            assert box.sandbox.courier.settle(SECONDS)
            lines = plain().get(f"{box.base_url}/_sandbox/pushes/jumpcloud").text.splitlines()
        book = [json.loads(line) for line in lines]
        taken_ = [c["id"] for a in book if a["fate"] == "delivered" for c in a["carries"]]
        assert sorted(taken_) == sorted(got.json()["id"] for got in receiver.got)
        return [got.body for got in receiver.got], Counter(a["fate"] for a in book)

    bodies, outcomes = pushed(1)
    assert 15 <= outcomes["lost"] <= 45
    assert 3 <= outcomes["delivered"] + outcomes["lost"] - 150 <= 27
    first_seen = list(dict.fromkeys(bodies))
    assert first_seen != [raw for raw in raws if raw in set(first_seen)]
    again, _ = pushed(1)
    other, _ = pushed(2)
    assert sorted(again) == sorted(bodies)
    assert sorted(other) != sorted(bodies)


def test_nothing_is_pushed_beyond_this_machine(box: Running, signed_in: Any) -> None:
    away = "https://receiver.example/hook"
    okta = signed_in("okta").post(HOOKS, json=hook(away, TYPES))
    office = start(signed_in("office_365"), away)
    google = signed_in("google_workspace").post(
        f"{REPORTS}/login/watch", json={"id": "c", "type": "web_hook", "address": away}
    )
    pushed = signed_in("cloudflare").post(
        JOBS, json={"dataset": "audit_logs", "destination_conf": away}
    )
    consoles = [
        plain().post(f"{box.base_url}/_sandbox/webhooks/{kind}", json={"address": away})
        for kind in ("atlassian", "jumpcloud", "opsgenie")
    ]
    for refused in (okta, office, google, pushed, *consoles):
        assert refused.status_code == 400
        assert "pushes only to loopback addresses" in refused.text
    assert all(fates(box, kind) == [] for kind in server.services())


@pytest.mark.parametrize("kind", ["okta", "entra_id"])
def test_only_vendors_without_a_webhook_api_have_a_console(box: Running, kind: str) -> None:
    refused = plain().post(
        f"{box.base_url}/_sandbox/webhooks/{kind}", json={"address": "http://127.0.0.1:1"}
    )
    assert refused.status_code == 400
    assert Webhook(address="x").events == []
