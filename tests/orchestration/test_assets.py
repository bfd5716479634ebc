"""Assets: what a run of each writes and reports."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from pipelines.orchestration import assets
from tests.webhooks.conftest import source
from tests.webhooks.test_receiver import hook, polled, put, run_worker, spool

__all__ = ["spool"]


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
