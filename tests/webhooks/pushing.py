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


def event(number, **more):
    """Return a record as Okta's API has it; the times are spread over a day."""
    return {
        "uuid": f"id-{number}",
        "published": (NOW - timedelta(seconds=number % 86400)).isoformat(),
        "eventType": "user.session.start",
        "request": {"ipChain": [{"ip": "192.0.2.1"}]},
        **more,
    }


def hook(*numbers, **more):
    """Return the body of an Okta event hook, which has the chain below `client`."""
    found = [event(number, **more) for number in numbers]
    events = [{"client": each.pop("request"), **each} for each in found]
    return json.dumps({"eventType": "com.okta.event_hook", "data": {"events": events}}).encode()


def ids(lake, integration="okta", stream="system_log"):
    return raw_table(lake, integration, stream)["event_id"].to_list()


def run_worker(lake, spool, kind="okta", **more):
    worker = Worker(lake=lake, source=source(kind), spool=spool, push=source(kind).integration.push)
    worker.run_once()
    return worker


def put(spool, body, name="okta"):
    spool.put(name, {"content-type": "application/json"}, body, datetime.now(UTC))


def polled(lake, *numbers, **more):
    """Store these events as a round of polling does."""
    land(lake, *(json.dumps(event(number, **more)).encode() for number in numbers))


def land(lake, *records, kind="okta", stream=0):
    """Store these records of a stream as a round of polling does."""
    this = rounds.Round(lake=lake, source=source(kind), stream=source(kind).streams()[stream],
                         client=None)  # fmt: skip
    pending = PendingCoverage(now=NOW, recorded_at=NOW)
    page = Page(records=records, cursor="next")
    made = report.Report(integration=kind, stream="x")
    fresh = rounds._land(this, [page], pending, made)
    rounds._catch_up(this, made.total, made)
    return fresh
