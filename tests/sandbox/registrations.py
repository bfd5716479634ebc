"""Registers receivers of pushes, in the services' APIs and consoles."""

from __future__ import annotations

from functools import cache
from typing import Any

import httpx

from sandbox.pushes import Attempt
from sandbox.server import Running
from sandbox.services import cloudflare, office_365
from tests.sandbox.receivers import Receiver

SECRET = "a-shared-secret-of-play"
HOOKS = "/api/v1/eventHooks"
TYPES = ["user.session.start", "user.authentication.sso"]
FEED = f"/api/v1.0/{office_365.microsoft.TENANT_ID}/activity/feed"
REPORTS = "/admin/reports/v1/activity/users/all/applications"
JOBS = f"/accounts/{cloudflare.ACCOUNT_ID}/logpush/jobs"


@cache
def plain() -> httpx.Client:
    """A client for the sandbox's control API."""
    return httpx.Client(trust_env=False)


def fates(box: Running, kind: str) -> list[tuple[str, str, int | None]]:
    return [(a.what, a.fate, a.status) for a in box.sandbox.attempts(kind)]


def carried(attempts: list[Attempt]) -> list[str]:
    return [each.id for attempt in attempts for each in attempt.carries]


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


def hooked(client: httpx.Client, receiver: Receiver) -> dict[str, Any]:
    made = client.post(HOOKS, json=hook(f"{receiver.url}/okta", TYPES)).json()
    verified = client.post(f"{HOOKS}/{made['id']}/lifecycle/verify").json()
    assert verified["verificationStatus"] == "VERIFIED"
    return dict(verified)


def start(client: httpx.Client, address: str | None, **more: Any) -> httpx.Response:
    webhook = {"address": address, "authId": SECRET, **more}
    return client.post(
        f"{FEED}/subscriptions/start",
        params={"contentType": "Audit.Exchange"},
        json={"webhook": webhook} if address else None,
    )


def watch(client: httpx.Client, receiver: Receiver, id_: str, **more: Any) -> httpx.Response:
    channel = {"id": id_, "type": "web_hook", "address": f"{receiver.url}/google", "token": SECRET}
    return client.post(f"{REPORTS}/login/watch", json={**channel, **more})


def job(receiver: Receiver, dataset: str = "audit_logs", **more: Any) -> dict[str, Any]:
    destination = f"{receiver.url}/logs?header_Authorization=Basic%20{SECRET}&tags=a"
    return {"dataset": dataset, "destination_conf": destination, "enabled": True, **more}


def console(box: Running, receiver: Receiver, kind: str, *events: str) -> httpx.Response:
    body = {
        "address": f"{receiver.url}/{kind}",
        "headers": {"Authorization": f"Basic {SECRET}"},
        "events": events,
    }
    return plain().post(f"{box.base_url}/_sandbox/webhooks/{kind}", json=body)
