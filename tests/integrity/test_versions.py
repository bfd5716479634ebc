"""Records that are published again changed: raw keeps every version, events show the newest."""

import json

import pytest
from deltalake import DeltaTable

from pipelines import registry
from pipelines.extraction import derive
from pipelines.extraction.report import Report
from pipelines.integrity import signer
from pipelines.integrity.verifier import events, table_reader, verify
from pipelines.integrity.verifier.job import Job, WorkerPool
from pipelines.lake import raw
from pipelines.lake.tables import StreamKey
from pipelines.mapping import normalise
from tests.integrity.worlds import NOON, Signed

SIGN_INS = StreamKey("entra_id", "sign_ins")
SOURCE = registry.source(
    "entra_id",
    {"tenant_id": "t", "client_id": "c", "client_secret": "x" * 20, "streams": ["sign_ins"]},
)


def land(signed, *versions):
    """A round of sign-ins: (number, risk)."""
    (stream,) = SOURCE.streams()
    records = [
        {"id": f"s{number}", "createdDateTime": f"2026-03-01T11:{number:02}:00Z", "riskState": risk}
        for number, risk in versions
    ]
    read = normalise.read(stream, [json.dumps(r).encode() for r in records], NOON, "poll")
    landed = raw.append(signed.lake, SIGN_INS, read.drop("fault", "bytes"), "c").frame
    signer.sign(signed.lake, SIGN_INS, landed["seq"][-1] + 1, NOON, landed)
    report = Report(integration="entra_id", stream="sign_ins")
    derive.catch_up(signed.lake, SOURCE, stream, report)


def verified(signed, **options):
    case = Job(place=signed.place, table=SIGN_INS.table, kind="entra_id", **options)
    with WorkerPool(1) as crew:
        verdict = verify.verify(case, crew)
    return verdict.findings, verdict.events


@pytest.fixture
def signed(tmp_path):
    """Seven records, of which two were published again."""
    world = Signed(tmp_path)
    land(world, *((number, "none") for number in range(7)))
    land(world, (3, "atRisk"), (5, "atRisk"))
    land(world, (5, "remediated"))
    return world


@pytest.mark.parametrize("rows_at_once", [1, 65_536])
def test_an_older_version_is_no_missing_event(signed, monkeypatch, rows_at_once):
    monkeypatch.setattr(table_reader, "_TASK_ROWS", rows_at_once)
    assert verified(signed, full=True) == ([], 7)
    land(signed, (6, "atRisk"))
    assert verified(signed) == ([], 7)


def test_the_newest_version_must_be_shown(signed):
    events = DeltaTable(signed.lake.uri("events"))
    events.delete("seq = 9")
    (first, *_), _ = verified(signed, full=True)
    assert first.detail.startswith("events: entra_id:sign_ins:s5@")
    assert first.detail.endswith(" is missing")


@pytest.mark.parametrize(
    ("module", "step"),
    [(table_reader, "_event_files"), (table_reader, "_by_day"), (events, "_count")],
)
def test_a_newer_version_may_land_during_a_verification(signed, monkeypatch, module, step):
    """Before and after the events are opened, and after they were compared."""
    original = getattr(module, step)

    def late(*arguments):
        if not landed:
            landed.append(land(signed, (3, "remediated")))
        return original(*arguments)

    landed = []
    monkeypatch.setattr(module, step, late)
    findings, events = verified(signed, full=True)
    assert ([each for each in findings if each.kind == "events"], events) == ([], 7)
    assert landed
