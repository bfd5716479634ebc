"""Pushes over real sockets, and their mishaps."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sandbox import server
from sandbox.faults import Mishap
from sandbox.server import Running, Sandbox
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    HOOKS,
    JOBS,
    REPORTS,
    TYPES,
    console,
    fates,
    hook,
    plain,
    start,
)
from tests.sandbox.setups import PUSHING, SECONDS, Clock


def mishaps(pushing: Running, *found: Mishap) -> None:
    body = [{name: getattr(each, name) for name in each.__struct_fields__} for each in found]
    assert plain().post(f"{pushing.base_url}/_sandbox/mishaps", json=body).status_code == 204


def test_pushes_are_lost_duplicated_and_reordered_by_seed(
    receiver: Receiver, elsewhere: Sandbox
) -> None:
    raws = [r.raw for r in elsewhere.log("jumpcloud", "directory_insights").visible()[:150]]

    def pushed(seed: int) -> tuple[list[bytes], Counter[str]]:
        receiver.got.clear()
        with server.running(PUSHING, Clock()) as box:
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
    # The fates depend on the ids, which the clock is part of: six standard deviations each way.
    assert 1 <= outcomes["lost"] <= 60
    assert 1 <= outcomes["delivered"] + outcomes["lost"] - 150 <= 37
    first_seen = list(dict.fromkeys(bodies))
    assert first_seen != [raw for raw in raws if raw in set(first_seen)]
    again, _ = pushed(1)
    other, _ = pushed(2)
    assert sorted(again) == sorted(bodies)
    assert sorted(other) != sorted(bodies)


def test_nothing_is_pushed_beyond_this_machine(pushing: Running, signed_in: Any) -> None:
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
        plain().post(f"{pushing.base_url}/_sandbox/webhooks/{kind}", json={"address": away})
        for kind in ("atlassian", "jumpcloud", "opsgenie")
    ]
    for refused in (okta, office, google, pushed, *consoles):
        assert refused.status_code == 400
        assert "pushes only to loopback addresses" in refused.text
    assert all(fates(pushing, kind) == [] for kind in server.services())
