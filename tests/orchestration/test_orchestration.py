"""Sensors request a run only if it changes something; checks find faults in tables."""

import json
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines import definitions
from pipelines.extraction import client
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import tables
from pipelines.lake.tables import StreamKey
from pipelines.orchestration.sensors import Peek, PollState, next_poll, worth_a_run
from sandbox.faults import Fault

LOG = StreamKey("okta", "system_log")
RAW, EVENTS = dg.AssetKey(["raw", *LOG]), dg.AssetKey("events")


class Operator:
    """Ticks the sensor and runs what it requests, as the daemon does."""

    def __init__(self, world, instance):
        def connect(source, retry_policy=None):
            return client.connect(source, retry_policy=RetryPolicy(attempts=1))

        self.instance = instance
        self.made = definitions.definitions(world.lake, [world.source("okta")], connect)
        self.sensor = next(s for s in self.made.sensors if s.name == "poll_okta")

    def tick(self):
        """The requested runs and the skip message; all streams are due."""
        context = dg.build_sensor_context(
            self.instance, repository_def=self.made.get_repository_def()
        )
        ticked = self.sensor.evaluate_tick(context)
        return ticked.run_requests or [], ticked.skip_message

    def run(self, request):
        job = self.made.resolve_job_def("okta")
        chosen = job.get_subset(asset_selection=set(request.asset_selection))
        return chosen.execute_in_process(
            instance=self.instance, tags=request.tags, raise_on_error=False
        )


@pytest.fixture
def operator(still_world):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Operator(still_world, instance)


def arrives(world):
    log = world.running.sandbox.log(*LOG)
    record = json.loads(log.visible()[-1].raw)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    log.append(json.dumps({**record, "uuid": f"new at {now}", "published": now}).encode())


def test_new_records_start_a_run_and_silence_starts_none(still_world, operator):
    (first,), _ = operator.tick()
    assert set(first.asset_selection) == {RAW, EVENTS}
    assert operator.run(first).success
    rows = still_world.stored(*LOG).height
    assert operator.tick() == (
        [],
        "system_log: no new records; next poll in 10 s "
        "(no new records: backing off, at most 60 s between polls)",
    )
    arrives(still_world)
    (second,), _ = operator.tick()
    assert operator.run(second).success
    assert still_world.stored(*LOG).height == rows + 1
    assert first.run_key != second.run_key


def test_two_ticks_after_the_same_run_request_one(operator):
    ((first,), _), ((again,), _) = operator.tick(), operator.tick()
    assert first.run_key == again.run_key


def test_a_vendor_that_is_down_fails_one_run_and_not_one_after_another(still_world, operator):
    still_world.poll("okta")
    arrives(still_world)
    still_world.disorder(Fault(kind="okta", fault="status", status=503, every=True))
    (asked,), _ = operator.tick()
    assert not operator.run(asked).success
    (left,), _ = operator.tick()
    assert set(left.asset_selection) == {EVENTS}  # what has landed nevertheless
    assert operator.run(left).success
    requests, said = operator.tick()
    assert requests == []
    assert "503" in said
    still_world.disorder()
    (mended,), _ = operator.tick()
    assert operator.run(mended).success
    assert still_world.events(*LOG).height == still_world.stored(*LOG).height > 0


def test_a_run_that_is_not_finished_is_waited_for(operator):
    (asked,), _ = operator.tick()
    run = operator.instance.create_run_for_job(
        operator.made.resolve_job_def("okta"),
        status=dg.DagsterRunStatus.STARTED,
        tags=asked.tags,
    )
    assert operator.tick() == ([], f"run {run.run_id} is still in progress")


def test_a_run_whose_server_is_gone_fails_and_another_follows(operator, tmp_path):
    (asked,), _ = operator.tick()
    gone = {".dagster/grpc_info": json.dumps({"socket": str(tmp_path / "no-such-socket")})}
    run = operator.instance.create_run_for_job(
        operator.made.resolve_job_def("okta"),
        status=dg.DagsterRunStatus.STARTED,
        tags={**asked.tags, **gone},
    )
    assert operator.tick()[0]
    assert operator.instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize(
    ("peek", "last_run", "worth"),
    [
        (Peek(), "none", True),
        (Peek(), "succeeded", False),
        (Peek(new_records=True), "succeeded", True),
        (Peek(error="down"), "succeeded", True),
        (Peek(error="down"), "failed", False),
        (Peek(), "failed", True),
    ],
)
def test_a_run_starts_only_if_it_changes_something(peek, last_run, worth):
    assert worth_a_run(peek, last_run) is worth


def test_waits_grow_up_to_a_ceiling_until_new_records_are_stored():
    state, now, waits = PollState(), 0.0, []
    for peek in [Peek(rows=5)] * 5 + [Peek(new_records=True, rows=6)] * 2:
        state = next_poll(state, peek, "succeeded", now, floor=10.0)
        waits.append(state.wait)
    assert waits == [10, 20, 40, 60, 60, 10, 20]  # new records that no run stores don't count
    failed = next_poll(PollState(wait=600.0), Peek(error="down"), "failed", now, floor=10.0)
    assert failed.wait == 900


def checked(operator):
    """The checks that fail in a run over all tables, with their descriptions."""
    job = operator.made.resolve_job_def("full_table_checks")
    done = job.execute_in_process(instance=operator.instance)
    return {
        verdict.check_name: verdict.description
        for verdict in done.get_asset_check_evaluations()
        if not verdict.passed
    }


def doctored(world, change):
    """Change rows of the raw table, as anyone with access to the disk can."""
    uri = world.lake.uri(LOG.table)
    table = DeltaTable(uri)
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, change(tables.scan(world.lake, LOG.table).collect()), mode="overwrite")


def test_checks_pass_after_a_round(operator):
    (asked,), _ = operator.tick()
    assert operator.run(asked).success
    assert checked(operator) == {}


def test_a_duplicate_row_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: pl.concat([rows, rows.head(1)]))
    found = checked(operator)
    assert "1 of" in found["unique_event_id"]
    assert "dense_seq" in found


def test_a_missing_row_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: rows.filter(pl.col("seq") != 7))
    found = checked(operator)
    assert "committed" in found["dense_seq"]
    assert "unique_event_id" not in found


def test_rejected_records_raise_a_warning(still_world, operator):
    still_world.running.sandbox.append(*LOG, [b'{"uuid": 7}'], time=datetime.now(UTC).isoformat())
    still_world.poll("okta")
    assert checked(operator)["nothing_rejected"].startswith("1 x ")
