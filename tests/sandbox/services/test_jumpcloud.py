"""JumpCloud's webhooks, which its console registers."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sandbox.server import Running
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    console,
)


def test_jumpcloud_pushes_selected_events_one_by_one_and_retries_three_times(
    pushing: Running, receiver: Receiver, happen: Any
) -> None:
    receiver.reply = lambda _: (429, b"")
    console(pushing, receiver, "jumpcloud", "sso_auth")
    raws = happen("jumpcloud", "directory_insights", 60)
    wanted = [raw for raw in raws if json.loads(raw)["event_type"] == "sso_auth"]
    assert Counter(got.body for got in receiver.got) == dict.fromkeys(wanted, 4)
    assert len(wanted) > 1
