"""Atlassian's webhooks, which its console registers."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sandbox.server import Running
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    SECRET,
    console,
)


def test_atlassian_pushes_events_in_the_format_of_the_api(
    pushing: Running, receiver: Receiver, happen: Any
) -> None:
    made = [console(pushing, receiver, "atlassian").status_code for _ in range(4)]
    assert made == [201, 201, 201, 400]
    raws = happen("atlassian", "events", 70)
    bodies = Counter(got.body for got in receiver.got)
    assert set(bodies.values()) == {3}
    events = [event for body in bodies for event in json.loads(body)]
    # The three webhooks are served concurrently, so their pushes come in any order.
    assert sorted(e["id"] for e in events) == sorted(json.loads(raw)["id"] for raw in raws)
    assert {got.headers["authorization"] for got in receiver.got} == {f"Basic {SECRET}"}
