"""Pushed events are compared with polled ones."""

from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.lake import reconciliation, tables
from tests.webhooks.conftest import source, spool
from tests.webhooks.pushing import hook, polled, put, run_worker

__all__ = ["spool"]


def test_a_push_that_polling_never_finds_is_reported(lake, spool):
    put(spool, hook(1, 2))
    run_worker(lake, spool)
    polled(lake, 2, 3)
    stream, later = source("okta").streams()[0], datetime.now(UTC) + timedelta(hours=3)
    (_, *found), = reconciliation.reconcile(lake, source("okta"), stream, later).group_by(
        "integration").agg(pl.col("polled", "pushed", "both", "pushed_first", "unconfirmed").sum()
    ).rows()  # fmt: skip
    assert found == [2, 2, 1, 1, 1]
    soon = reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert soon["unconfirmed"].sum() == 0
    table = tables.open_table(lake, "reconciliation")
    reconciliation.reconcile(lake, source("okta"), stream, datetime.now(UTC))
    assert tables.open_table(lake, "reconciliation").version() == table.version()
