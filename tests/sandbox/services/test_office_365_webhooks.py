"""Office 365's webhooks, pushed to a receiver that may refuse them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from sandbox.server import Running
from tests.sandbox.receivers import Receiver, taken
from tests.sandbox.registrations import (
    FEED,
    SECRET,
    carried,
    fates,
    start,
)
from tests.sandbox.setups import Clock


def test_office_365_validates_a_webhook_and_notifies_it_of_blobs(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any, present: Clock
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
    delivered = [a for a in pushing.sandbox.attempts("office_365") if a.fate == "delivered"]
    assert set(carried(delivered)) == ids
    present.now += timedelta(seconds=1)
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
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any
) -> None:
    client = signed_in("office_365")
    start(client, receiver.url)
    receiver.reply = lambda _: (201, b"")
    happen("office_365", "exchange", 5)
    assert [
        status for what, _, status in fates(pushing, "office_365") if what == "notification"
    ] == [201] * 6
    (listed,) = client.get(f"{FEED}/subscriptions/list").json()
    assert listed["webhook"]["status"] == "disabled"
    happen("office_365", "exchange", 5, 5)
    assert len(receiver.got) == 7
    receiver.reply = taken
    assert start(client, receiver.url).json()["webhook"]["status"] == "enabled"
    assert start(client, receiver.url).json()["error"]["code"] == "AF20024"
    happen("office_365", "exchange", 5, 10)
    assert fates(pushing, "office_365")[-1] == ("notification", "delivered", 200)
    assert start(client, None).json()["webhook"] is None
    before = len(receiver.got)
    happen("office_365", "exchange", 5, 15)
    assert len(receiver.got) == before
