"""Assets: what a run of each writes and reports."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from pipelines.lake import coverage
from pipelines.lake.coverage import Entry
from pipelines.lake.lease import Lease
from pipelines.lake.tables import StreamKey
from pipelines.orchestration import assets
from sandbox.faults import Fault
from tests.webhooks.conftest import source, spool
from tests.webhooks.pushing import hook, polled, put, run_worker

__all__ = ["spool"]
LOG = ("okta", "system_log")
RAW, EVENTS = dg.AssetKey(["raw", *LOG]), dg.AssetKey("events")


def test_the_check_warns_of_pushes_that_polling_never_showed(lake, spool, monkeypatch):
    put(spool, hook(1, 2))
    run_worker(lake, spool)
    polled(lake, 2, 3)
    asset = assets.reconciled(lake, [source("okta")])
    for ahead, passed in ((timedelta(0), True), (timedelta(hours=3), False)):
        now = datetime.now(UTC) + ahead
        monkeypatch.setattr(assets, "utc_now", lambda now=now: now)
        with dg.DagsterInstance.ephemeral() as instance:
            done = dg.materialize([asset], instance=instance)
        (verdict,) = done.get_asset_check_evaluations()
        assert (verdict.passed, verdict.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert "okta system_log (1)" in verdict.description


def test_no_push_is_missed_while_polls_fail(lake, spool, monkeypatch):
    put(spool, hook(1))
    run_worker(lake, spool)
    key, now = StreamKey(*LOG), datetime.now(UTC)
    hours = [now + timedelta(hours=hours) for hours in (-1, 5, 6)]
    coverage.record(lake, key, [Entry(since=hours[0] - timedelta(days=1), until=hours[0],
                                      asked_at=hours[0])])  # fmt: skip
    failed = Entry(since=hours[1], until=hours[1], asked_at=hours[1], outcome="failed", reason="x")
    old = Entry(since=hours[0] - timedelta(days=9), until=hours[0] - timedelta(days=8),
                asked_at=hours[1])  # fmt: skip
    coverage.record(lake, key, [failed, old])
    monkeypatch.setattr(assets, "utc_now", lambda: hours[2])
    assert confirmed(lake)
    coverage.record(lake, key, [Entry(since=hours[0], until=hours[2], asked_at=hours[2])])
    assert not confirmed(lake)


def confirmed(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([assets.reconciled(lake, [source("okta")])], instance=instance)
    (verdict,) = done.get_asset_check_evaluations()
    return verdict.passed


def run(operator):
    """Run a round; return its result and the figures of each asset."""
    job = operator.made.resolve_job_def("okta")
    done = job.execute_in_process(instance=operator.instance, raise_on_error=False)
    made = [event.materialization for event in done.get_asset_materialization_events()]
    return done, {each.asset_key: {k: v.value for k, v in each.metadata.items()} for each in made}


def test_a_round_reports_the_rows_it_added_and_the_size_of_the_table(still_world, operator):
    done, figures = run(operator)
    rows = still_world.stored(*LOG).height
    assert done.success
    assert figures[RAW]["rows added"] == figures[RAW]["dagster/row_count"] == rows > 0
    assert figures[RAW]["requests"] > 0
    assert figures[EVENTS]["dagster/row_count"] == still_world.events(*LOG).height
    assert figures[EVENTS]["records of okta"] == rows


def test_a_vendor_that_refuses_fails_its_asset_with_the_reason(still_world, operator):
    still_world.disorder(Fault(kind="okta", fault="status", status=403, every=True))
    done, figures = run(operator)
    assert not done.success
    assert RAW not in figures
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert "403" in failed.step_failure_data.user_failure_data.description
    seen = observed(operator.instance)
    assert seen["state"] == "failing"
    assert "403" in seen["failure"]
    still_world.disorder()
    done, figures = run(operator)
    assert figures[RAW]["state"] == "up to date"
    assert "failure" not in figures[RAW]


def test_a_run_sends_no_request_while_another_machine_polls(still_world, operator, monkeypatch):
    monkeypatch.setattr(Lease, "claim", lambda _: False)
    done, _ = run(operator)
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    description = failed.step_failure_data.user_failure_data.description
    assert description == "okta: another machine polls with this credential: run it there"
    assert still_world.running.sandbox.requests("okta")[0] == 0


def observed(instance):
    """Return the metadata of the newest observation of the raw table."""
    (newest,) = instance.fetch_observations(RAW, limit=1).records
    return {name: each.value for name, each in newest.asset_observation.metadata.items()}


def test_only_integrations_that_receive_pushes_have_an_asset_for_subscriptions():
    specs = assets.subscribed([source("okta"), source("okta", webhook_secret=None)])
    assert [spec.key for spec in specs] == [dg.AssetKey(["push", "okta"])]
