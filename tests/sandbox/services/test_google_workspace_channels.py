"""Google's push channels, pushed to a receiver that may refuse them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandbox.server import Running
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    SECRET,
    fates,
    watch,
)
from tests.sandbox.setups import PRESENT, Clock


def test_a_channel_gets_a_sync_message_and_activities_until_it_is_stopped(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any
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
    receiver: Receiver, happen: Any, signed_in: Any, present: Clock
) -> None:
    client = signed_in("google_workspace")
    longest = str(int((PRESENT + timedelta(hours=6)).timestamp() * 1000))
    week = str(int((PRESENT + timedelta(days=7)).timestamp() * 1000))
    assert watch(client, receiver, "a").json()["expiration"] == longest
    assert watch(client, receiver, "b", expiration=week).json()["expiration"] == longest
    assert watch(client, receiver, "a").status_code == 400
    happen("google_workspace", "login", 1)
    assert len(receiver.bodies()) == 2
    present.now += timedelta(hours=6)
    happen("google_workspace", "login", 1, 1)
    assert len(receiver.bodies()) == 2


@pytest.mark.parametrize("tried", [(503, 6), (500, 6), (404, 1), (202, 1)])
def test_google_retries_after_some_errors_only(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any, tried: tuple[int, int]
) -> None:
    status, attempts = tried
    watch(signed_in("google_workspace"), receiver, "channel")
    receiver.reply = lambda _: (status, b"")
    happen("google_workspace", "login", 1)
    assert [s for what, _, s in fates(pushing, "google_workspace") if what == "activity"] == [
        status
    ] * attempts
