"""Sensors ask for a run only where it changes something; checks find what is wrong with a table."""

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
from pipelines.orchestration.sensors import Look, Watch, watched, worth_a_run
from sandbox.faults import Fault

LOG = StreamKey("okta", "system_log")
RAW, EVENTS = dg.AssetKey(["raw", *LOG]), dg.AssetKey("events")


class Operator:
    """Ticks the sensor and runs what it asks for, as the daemon does."""

    def __init__(self, world, instance):
        def connect(source, patience=None):
            return client.connect(source, patience=RetryPolicy(attempts=1))

        self.instance = instance
        self.made = definitions.definitions(world.lake, [world.source("okta")], connect)
        self.sensor = next(s for s in self.made.sensors if s.name == "news_of_okta")

    def tick(self):
        """The runs asked for and what is said; all streams are due."""
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


def test_news_is_a_run_and_silence_is_none(still_world, operator):
    (first,), _ = operator.tick()
    assert set(first.asset_selection) == {RAW, EVENTS}
    assert operator.run(first).success
    rows = still_world.stored(*LOG).height
    assert operator.tick() == ([], "system_log: nothing new; again in 10 s (" +
                               "nothing new: ever later, up to 60 s)")  # fmt: skip
    arrives(still_world)
    (second,), _ = operator.tick()
    assert operator.run(second).success
    assert still_world.stored(*LOG).height == rows + 1
    assert first.run_key != second.run_key


def test_two_ticks_that_follow_the_same_run_ask_for_one(operator):
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
    assert operator.tick() == ([], f"run {run.run_id} is not finished")


def test_a_run_whose_server_is_gone_is_failed_and_followed_by_another(operator, tmp_path):
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
    ("look", "standing", "worth"),
    [
        (Look(), "new", True),
        (Look(), "made", False),
        (Look(news=True), "made", True),
        (Look(error="down"), "made", True),
        (Look(error="down"), "failed", False),
        (Look(), "failed", True),
    ],
)
def test_what_is_worth_a_run(look, standing, worth):
    assert worth_a_run(look, standing) is worth


def test_pauses_grow_up_to_a_ceiling_and_news_end_them():
    watch, now, waits = Watch(), 0.0, []
    for look in [Look(rows=5)] * 5 + [Look(news=True, rows=6), Look(news=True, rows=6)]:
        watch = watched(watch, look, "made", now, floor=10.0)
        waits.append(watch.wait)
    assert waits == [10, 20, 40, 60, 60, 10, 20]  # news that do not land are no news
    failed = watched(Watch(wait=600.0), Look(error="down"), "failed", now, floor=10.0)
    assert failed.wait == 900


def checked(operator):
    """Which checks of a run over all tables fail, with what they say."""
    job = operator.made.resolve_job_def("whole_tables")
    done = job.execute_in_process(instance=operator.instance)
    return {
        verdict.check_name: verdict.description
        for verdict in done.get_asset_check_evaluations()
        if not verdict.passed
    }


def doctored(world, change):
    """The raw table with other rows, as whoever has the disk can make it."""
    uri = world.lake.uri(LOG.table)
    table = DeltaTable(uri)
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, change(tables.scan(world.lake, LOG.table).collect()), mode="overwrite")


def test_checks_pass_over_what_a_round_left(operator):
    (asked,), _ = operator.tick()
    assert operator.run(asked).success
    assert checked(operator) == {}


def test_a_row_twice_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: pl.concat([rows, rows.head(1)]))
    found = checked(operator)
    assert "1 of" in found["unique_event_id"]
    assert "dense_seq" in found


def test_a_row_that_is_missing_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: rows.filter(pl.col("seq") != 7))
    found = checked(operator)
    assert "the fence says" in found["dense_seq"]
    assert "unique_event_id" not in found


def test_what_was_rejected_is_warned_of(still_world, operator):
    still_world.running.sandbox.append(*LOG, [b'{"uuid": 7}'], time=datetime.now(UTC).isoformat())
    still_world.poll("okta")
    assert checked(operator)["nothing_rejected"].startswith("1 x ")
