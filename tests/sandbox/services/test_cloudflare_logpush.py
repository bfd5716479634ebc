"""Cloudflare's Logpush, pushed to a receiver that may refuse it."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from typing import Any

from sandbox.server import Running
from tests.sandbox.receivers import Receiver
from tests.sandbox.registrations import (
    JOBS,
    SECRET,
    fates,
    job,
)


def test_logpush_uploads_a_test_and_then_gzipped_lines(
    pushing: Running, receiver: Receiver, happen: Any, signed_in: Any
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
    assert fates(pushing, "cloudflare") == [("test", "delivered", 200), ("batch", "delivered", 200)]


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
