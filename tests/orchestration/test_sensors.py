"""Sensors request a run only if it changes something."""

import json
from datetime import UTC, datetime

import dagster as dg
import pytest

from pipelines.extraction import rounds
from pipelines.extraction.rounds import Round
from pipelines.lake.tables import StreamKey
from pipelines.orchestration import orphans, sensors
from pipelines.orchestration.sensors import Peek, PollState, is_waiting, next_poll, worth_a_run
from pipelines.sdk.pages import Page
from sandbox.faults import Fault

LOG = StreamKey("okta", "system_log")
RAW, EVENTS = dg.AssetKey(["raw", *LOG]), dg.AssetKey("events")


def arrives(world):
    log = world.running.sandbox.log(*LOG)
    record = json.loads(log.visible()[-1].raw)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    log.append(json.dumps({**record, "uuid": f"new at {now}", "published": now}).encode())


def test_new_records_start_a_run_and_silence_starts_none(still_world, operator):
    (first,), _ = operator.tick()
    assert set(first.asset_selection) == {RAW, EVENTS}
    assert {check.name for check in first.asset_check_keys} == {
        "dense_seq", "freshness", "nothing_rejected", "same_content", "unique_event_id",
    }  # fmt: skip
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


def test_a_polled_record_that_differs_from_a_pushed_one_starts_a_run(still_world, operator):
    (first,), _ = operator.tick()
    operator.run(first)
    arrives(still_world)
    true = still_world.running.sandbox.log(*LOG).visible()[-1].raw
    source = still_world.source("okta")
    this = Round(lake=still_world.lake, source=source, stream=source.streams()[0], client=None,
                 via="webhook")  # fmt: skip
    forged = json.dumps({**json.loads(true), "actor": {"id": "eve"}}).encode()
    assert rounds.push(this, [Page(records=[forged], cursor="")]).error is None
    (second,), _ = operator.tick()
    assert operator.run(second).success
    assert still_world.stored(*LOG)["via"].to_list()[-2:] == ["webhook", "poll"]
    requests, _ = operator.tick()
    assert requests == []


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


def test_a_run_whose_server_is_gone_fails_and_another_follows(operator, tmp_path, monkeypatch):
    monkeypatch.setattr(orphans, "_SILENT", 0.0)
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


def test_a_wait_that_a_wrong_clock_has_set_is_void():
    state = PollState(due=1000.0, wait=60.0)
    assert is_waiting(state, 950.0)
    assert not is_waiting(state, 1001.0)
    assert not is_waiting(state, 1000.0 - 3 * 86_400)


def test_a_report_of_the_receiver_does_not_hide_how_the_last_run_went():
    with dg.DagsterInstance.ephemeral() as instance:
        fails = [False]

        @dg.multi_asset(name="one", specs=[dg.AssetSpec(RAW)])
        def one():
            if fails[0]:
                raise dg.Failure("the vendor is down", allow_retries=False)
            yield dg.MaterializeResult(asset_key=RAW)

        assert sensors._last_run(instance, RAW) == "none"
        for failed, last_run in ((False, "succeeded"), (True, "failed"), (False, "succeeded")):
            fails[0] = failed
            dg.materialize([one], instance=instance, raise_on_error=False)
            assert sensors._last_run(instance, RAW) == last_run
            for reported in (dg.AssetObservation, dg.AssetMaterialization):
                instance.report_runless_asset_event(reported(RAW))
                assert sensors._last_run(instance, RAW) == last_run
