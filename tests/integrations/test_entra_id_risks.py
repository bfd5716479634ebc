"""Risk detections of Entra ID: detected and updated ones, their versions, and the licence."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.errors import Refused
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.lake import coverage
from pipelines.lake.stream_state import state
from pipelines.lake.tables import StreamKey
from sandbox.services import entra_id as sandbox
from tests.integrations.test_entra_id import asked, logs, read_at, walk

LOG = ("entra_id", "risk_detections")
PATH = "/v1.0/identityProtection/riskDetections"


def test_detected_and_then_updated_risks_are_read_newest_first():
    _, (detected, updated, *_) = walk("risk_detections", lambda _: logs())
    assert {detected.url.path, updated.url.path} == {PATH}
    assert asked(detected) == {
        "$filter": "detectedDateTime ge 2026-05-31T22:45:00Z and "
        "detectedDateTime le 2026-06-01T00:00:00Z",
        "$orderby": "detectedDateTime desc",
        "$top": "500",
    }
    assert asked(updated) == {
        "$filter": "lastUpdatedDateTime gt 2026-05-31T22:44:59Z and "
        "lastUpdatedDateTime lt 2026-06-01T00:00:01Z",
        "$orderby": "lastUpdatedDateTime desc",
        "$top": "500",
    }


def test_a_risk_that_is_dismissed_days_later_gets_a_new_version(still_world):
    source, now = still_world.source("entra_id", streams=["risk_detections"]), datetime.now(UTC)
    read_at(still_world, source, now)
    found = now - timedelta(days=9)
    first = {
        "id": "dismissed",
        "riskEventType": "leakedCredentials",
        "riskState": "atRisk",
        "detectedDateTime": f"{found:%Y-%m-%dT%H:%M:%SZ}",
        "lastUpdatedDateTime": f"{found:%Y-%m-%dT%H:%M:%SZ}",
    }
    changed = first | {"riskState": "dismissed", "lastUpdatedDateTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    append = still_world.running.sandbox.append
    append(*LOG, [json.dumps(changed).encode()], time=first["detectedDateTime"])
    read_at(still_world, source, now + timedelta(minutes=1))
    ours = pl.col("event_id").str.starts_with("dismissed@")
    rows = still_world.events(*LOG).filter(ours)
    assert rows["action_type"].to_list() == ["Close"]
    assert rows["time"].to_list() == [found.replace(microsecond=0)]


def test_every_risk_of_the_history_is_read(still_world):
    source = still_world.source("entra_id", streams=["risk_detections"])
    read_at(still_world, source, datetime.now(UTC))
    issued = still_world.issued(*LOG)
    assert len(issued) > 5
    assert set(issued) <= set(still_world.stored(*LOG)["raw_sha256"])


def test_a_tenant_without_the_licence_is_not_licensed_rather_than_failing(still_world):
    source = still_world.source(
        "entra_id", client_id=sandbox.UNLICENSED_CLIENT_ID, streams=["risk_detections"]
    )
    now = datetime.now(UTC)
    (stream,) = source.streams()
    with service_client.connect(source) as client:
        this = rounds.Round(
            lake=still_world.lake, source=source, stream=stream, client=client, clock=lambda: now
        )
        assert "risk detections need Microsoft Entra ID P2" in str(rounds.extract(this).error)
    known = coverage.history(still_world.lake, StreamKey(*LOG), this.facts)
    found = state(known, now)
    assert found.name == "not licensed"
    assert "answered 403: not licensed: " in str(found.reason)


def test_a_missing_permission_for_risks_is_named(still_world):
    source = still_world.source("entra_id", client_id=sandbox.NO_ROLES_CLIENT_ID)
    with (
        service_client.connect(source) as client,
        pytest.raises(Refused, match=r"IdentityRiskEvent\.Read\.All"),
    ):
        client.get(PATH)
