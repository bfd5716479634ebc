"""Opsgenie's webhooks, which its console registers."""

from __future__ import annotations

from datetime import timedelta

from sandbox import server
from sandbox.server import Options
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    carried,
    console,
    plain,
)
from tests.sandbox.setups import PRESENT, SECONDS, Clock


def test_opsgenie_pushes_alerts_before_its_log_shows_them(
    present: Clock, receiver: Receiver
) -> None:
    options = Options(seed=7, days=0, rate=20, anchor=PRESENT)
    with server.running(options, present) as box:
        made = console(box, receiver, "opsgenie").json()
        present.now += timedelta(seconds=59)
        assert box.sandbox.courier.settle(SECONDS)
        assert box.sandbox.log("opsgenie", "logs").visible() == []
        pushed_alerts = [got.json() for got in receiver.got]
        assert {"Create", "Acknowledge"} <= {each["action"] for each in pushed_alerts}
        assert {len(str(each["alert"]["updatedAt"])) for each in pushed_alerts} == {19}
        ended = plain().delete(f"{box.base_url}/_sandbox/webhooks/opsgenie/{made['id']}")
        assert ended.status_code == 204
        present.now += timedelta(hours=2)
        lines = box.sandbox.ledger("opsgenie", "logs")
    pushed = carried(box.sandbox.attempts("opsgenie"))
    assert len(pushed) == len(set(pushed))
    assert set(pushed) <= {line.id for line in lines}
