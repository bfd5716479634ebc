"""A store that fails, is slow, or loses its responses: nothing is lost, nothing is twice."""

import json
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines import registry
from pipelines.detections import engine
from pipelines.detections.alerts import passes
from pipelines.errors import LakeError
from pipelines.extraction import rounds
from pipelines.integrity import reports
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import commits, per_file, tables, text_index_table
from pipelines.lake.commits import Table
from pipelines.settings import IntegritySettings
from tests.detections import kills
from tests.detections.alerts import world as world_of_alerts
from tests.detections.ruled import read
from tests.detections.watched import LATER, covered, land, okta, rule
from tests.lake.batches import LOG, NOON
from tests.objects.s3 import Fault
from tests.tiers import FULL

full = pytest.mark.skipif(not FULL, reason="`make test-full` runs it")
TABLES = (LOG.table, "events", "coverage")
MILD = [
    Fault(match="^PUT", kind="500", times=2),
    Fault(match="^GET", kind="503", times=2),
    Fault(match="", kind="slow", times=3, seconds=0.2),
    *(Fault(match=f"^PUT .*/{name}/_delta_log/0", kind="lost", times=1) for name in TABLES),
    Fault(match="^PUT .*parquet", kind="lost", times=1),
    Fault(match="^PUT .*/system_log/checkpoint", kind="lost", times=1),
    Fault(match="^PUT .*/tile/", kind="lost", times=1),
    Fault(match="^PUT .*/history/", kind="lost", times=1),
]
"""Faults that the next request of the same kind does not have."""
HARD = [
    Fault(match="^PUT", kind="expired"),
    Fault(match="^PUT .*/events/_delta_log/0", kind="expired"),
    Fault(match="^PUT .*/system_log/checkpoint", kind="expired"),
    Fault(match="^GET", kind="denied"),
]


@pytest.fixture
def world(store, vendors, tmp_path):
    lake = store.lake(integrity=IntegritySettings(folder=tmp_path / "state"))
    okta = {**vendors.settings()["okta"], "streams": ["system_log"]}
    return lake, registry.source("okta", okta)


def happen(vendors):
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    records = [
        {"uuid": uuid.uuid4().hex, "eventType": "user.session.start", "published": now}
        for _ in range(3)
    ]
    vendors.sandbox.append("okta", "system_log", [json.dumps(each).encode() for each in records])


def test_each_error_of_a_store_loses_and_doubles_nothing(store, vendors, world):
    lake, source = world
    rounds.poll(lake, [source])
    for fault in (*MILD, *HARD):
        happen(vendors)
        store.order(fault)
        (report,) = rounds.poll(lake, [source])
        store.order()
        if fault in HARD:
            assert "\n" not in (report.error or "")
            assert "check lake.root and lake.storage_options" in report.error, fault
            assert "test-secret" not in report.error
        else:
            assert report.error is None, (fault, report.error)
        (report,) = rounds.poll(lake, [source])
        assert report.error is None
        issued = [entry.sha256 for entry in vendors.sandbox.ledger("okta", "system_log")]
        stored = tables.existing(lake, LOG.table).select("raw_sha256").collect()["raw_sha256"]
        assert Counter(stored) == Counter(issued), fault
    events = tables.existing(lake, "events").select(pl.len(), pl.col("event_uid").n_unique())
    assert set(events.collect().row(0)) == {len(issued)}
    with WorkerPool(1) as crew:
        names = (LOG.table, "events", reports.ACTS)
        where = reports.place(lake, lake.integrity)
        verdicts = list(reports.verdicts(where, names, {"okta": "okta"}, crew))
    assert [verdict.ok for verdict in verdicts] == [True] * 3


def of_table(name):
    """Return one fault of each kind; the last two end the work."""
    commit = f"^PUT .*/{name}/_delta_log/0"
    return [
        Fault(match="^PUT", kind="500", times=2),
        Fault(match="^GET", kind="503", times=2),
        Fault(match="", kind="slow", times=3, seconds=0.1),
        Fault(match=commit, kind="lost", times=1),
        Fault(match=commit, kind="expired"),
        Fault(match=f"^PUT .*/{name}/.*parquet", kind="expired"),
    ]


@full
def test_each_error_of_a_store_misses_and_doubles_no_finding(store, tmp_path):
    lake, made = store.lake(), read(tmp_path, rule(1, {"eventType": "user.session.start"}))
    faults = [*of_table("findings"), *of_table("evaluations")]
    for number, fault in enumerate(faults):
        land(lake, "okta", okta(number), entries=[covered()])
        store.order(fault)
        with suppress(LakeError):
            list(engine.detect(lake, made))
        store.order()
        list(engine.detect(lake, made))
        found = tables.existing(lake, "findings").collect().sort("seq")
        assert found["seq"].to_list() == list(range(number + 1)), fault
        assert found["finding_uid"].n_unique() == number + 1, fault
    assert kills.tiles(lake) == ""


@full
def test_each_error_of_a_store_misses_and_doubles_no_alert(store):
    lake, now, names = store.lake(), world_of_alerts.NOW, []
    with world_of_alerts.receiving() as server:
        receivers = {"hook": world_of_alerts.hook(server.url, per_hour=100_000)}
        chosen = world_of_alerts.settings(receivers, give_up_after="365d")
        for number, fault in enumerate(of_table("deliveries")):
            now += 6 * world_of_alerts.MINUTE
            names.append(f"{number}@example.com")
            world_of_alerts.land(
                lake, world_of_alerts.finding(names[-1], entity=names[-1], time=now)
            )
            store.order(fault)
            done = passes.pass_once(chosen, lake, now)
            assert bool(done.errors) == (fault.kind == "expired"), (fault, done.errors)
            store.order()
            now += 6 * world_of_alerts.MINUTE
            assert not passes.pass_once(chosen, lake, now).errors
        told = {}
        for got in server.got:
            entity = json.loads(got.body)["data"]["alert"]["entity"]
            told.setdefault(entity, set()).add(got.headers["webhook-id"])
    assert {name: len(ids) for name, ids in told.items()} == dict.fromkeys(names, 1)
    assert {state for *_, state in world_of_alerts.states(lake)} == {"sent"}


@full
def test_each_error_of_a_store_leaves_every_file_indexed_once(store):
    lake = store.lake()
    for number, fault in enumerate(of_table("text_index")):
        land(lake, "okta", okta(number))
        store.order(fault)
        with suppress(LakeError):
            text_index_table.index(lake, LATER.date())
        store.order()
        text_index_table.index(lake, LATER.date())
        indexed = text_index_table.indexed(lake)[0].filter("current")
        assert sorted(indexed["path"]) == sorted(per_file.event_files(lake)["path"]), fault


def test_an_append_whose_response_is_lost_is_made_once(store):
    lake = store.lake()
    table = Table(name="access", schema={"date": pl.Date(), "n": pl.Int64()}, about="")
    for number in range(3):
        store.order(Fault(match="^PUT .*/_delta_log/.*[1-9].json", kind="lost", times=1))
        commits.append(lake, table, pl.DataFrame({"date": [NOON.date()], "n": [number]}))
    found = tables.existing(lake, "access").select("n").collect()["n"]
    assert sorted(found) == [0, 1, 2]
