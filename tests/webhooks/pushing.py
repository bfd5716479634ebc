"""Deliveries of Okta in a spool, workers that store them, and rounds that poll the same events."""

import json
from datetime import UTC, datetime, timedelta

from pipelines.extraction import report, rounds
from pipelines.extraction.pending import PendingCoverage
from pipelines.sdk.pages import Page
from pipelines.webhooks.worker import Worker
from tests.conftest import raw_table
from tests.webhooks.conftest import source

NOW = datetime.now(UTC).replace(microsecond=0)


def hook(*numbers):
    """Return the body of an Okta event hook; the events' times are spread over a day."""
    events = [
        {
            "uuid": f"id-{number}",
            "published": (NOW - timedelta(seconds=number % 86400)).isoformat(),
            "eventType": "user.session.start",
            "client": {"ipChain": [{"ip": "192.0.2.1"}]},
        }
        for number in numbers
    ]
    return json.dumps({"eventType": "com.okta.event_hook", "data": {"events": events}}).encode()


def ids(lake, integration="okta", stream="system_log"):
    return raw_table(lake, integration, stream)["event_id"].to_list()


def run_worker(lake, spool, kind="okta", **more):
    worker = Worker(lake=lake, source=source(kind), spool=spool, push=source(kind).integration.push)
    worker.run_once()
    return worker


def put(spool, body, name="okta"):
    spool.put(name, {"content-type": "application/json"}, body, datetime.now(UTC))


def polled(lake, *numbers):
    """Store these events as a round of polling does."""
    this = rounds.Round(lake=lake, source=source("okta"), stream=source("okta").streams()[0],
                         client=None)  # fmt: skip
    bodies = [json.dumps({"uuid": f"id-{n}",
                          "published": (NOW - timedelta(seconds=n % 86400)).isoformat()}).encode()
              for n in numbers]  # fmt: skip
    pending = PendingCoverage(now=NOW, recorded_at=NOW)
    page = Page(records=bodies, cursor="next")
    return rounds._land(this, [page], pending, report.Report(integration="okta", stream="x"))
