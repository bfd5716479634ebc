"""The sandbox's control API: ledger, appended records, requests and webhooks."""

from __future__ import annotations

import hashlib

import httpx
import msgspec
import pytest

from sandbox import server
from sandbox.faults import Fault
from sandbox.server import Entry, Running
from sandbox.service import Webhook
from tests.sandbox.okta_reader import (
    LOGS,
    ledger,
    okta_client,
    order,
)
from tests.sandbox.registrations import (
    plain,
)
from tests.sandbox.setups import ANCHOR


def test_the_ledger_is_served_as_one_line_per_record(box: Running) -> None:
    answer = httpx.get(f"{box.base_url}/_sandbox/ledger/okta/system_log")
    lines = [msgspec.json.decode(line, type=Entry) for line in answer.content.splitlines()]
    assert lines == ledger(box)
    assert len({entry.id for entry in lines}) == len(lines)
    assert httpx.get(f"{box.base_url}/_sandbox/ledger/okta/nothing").status_code == 404


def test_records_are_appended_verbatim(own: Running) -> None:
    lines = b'{"uuid":"a", "odd" : [1,2 ]}\n\n{"uuid":"b"}\n'
    url = f"{own.base_url}/_sandbox/records/okta/system_log"
    answer = httpx.post(url, content=lines, params={"time": "2026-11-17T00:00:00Z"})
    assert answer.json() == {"appended": 2}
    first, second = ledger(own)[-2:]
    assert (first.id, second.id) == ("a", "b")
    assert first.sha256 == hashlib.sha256(b'{"uuid":"a", "odd" : [1,2 ]}').hexdigest()
    assert first.time == "2026-11-17T00:00:00+00:00"
    assert first.arrival == ANCHOR.isoformat()


def test_an_unknown_fault_or_kind_is_refused(own: Running) -> None:
    url = f"{own.base_url}/_sandbox/faults"
    assert httpx.post(url, json=[{"kind": "okta", "fault": "flood"}]).status_code == 400
    assert httpx.post(url, json=[{"kind": "nobody", "fault": "reset"}]).status_code == 400
    own.sandbox.order([Fault(kind="okta", fault="reset", count=0)])


def test_requests_are_recorded_without_credentials(own: Running) -> None:
    order(own, {"fault": "garbage", "at": [1]})
    with okta_client(own) as client:
        client.get(LOGS, params={"q": "secret"})
        client.get(LOGS)
    answer = httpx.get(f"{own.base_url}/_sandbox/requests/okta")
    assert answer.json() == {
        "count": 2,
        "requests": [
            {"method": "GET", "path": "/okta/api/v1/logs", "status": 200, "fault": None},
            {"method": "GET", "path": "/okta/api/v1/logs", "status": 200, "fault": "garbage"},
        ],
    }


def test_every_service_has_settings_that_connect_auditlake_to_it() -> None:
    found = server.settings("http://127.0.0.1:8700")
    assert found.keys() == server.services().keys()
    for kind, keys in found.items():
        assert keys["base_url"].startswith(f"http://127.0.0.1:8700/{kind}")


@pytest.mark.parametrize("kind", ["okta", "entra_id"])
def test_only_vendors_without_a_webhook_api_have_a_console(pushing: Running, kind: str) -> None:
    refused = plain().post(
        f"{pushing.base_url}/_sandbox/webhooks/{kind}", json={"address": "http://127.0.0.1:1"}
    )
    assert refused.status_code == 400
    assert Webhook(address="x").events == []
