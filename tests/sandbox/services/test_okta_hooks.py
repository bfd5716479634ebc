"""Okta's event hooks, pushed to a receiver that may refuse them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from sandbox.server import Running
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    HOOKS,
    SECRET,
    TYPES,
    carried,
    hook,
    hooked,
)


def test_a_verified_event_hook_receives_its_event_types(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any
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
    delivered = [a for a in pushing.sandbox.attempts("okta") if a.what == "events"]
    assert sorted(carried(delivered)) == sorted(polled)


def test_an_endpoint_that_does_not_return_the_challenge_is_not_verified(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any
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
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any, tried: tuple[int, int]
) -> None:
    status, attempts = tried
    hooked(signed_in("okta"), receiver)
    receiver.reply = lambda _: (status, b"")
    raws = happen("okta", "system_log", 60)
    deliveries = Counter(a.delivery for a in pushing.sandbox.attempts("okta") if a.what == "events")
    assert raws
    assert set(deliveries.values()) == {attempts}
    last = pushing.sandbox.attempts("okta")[-1]
    assert (last.fate, last.status) == ("delivered" if status == 204 else "given up", status)
