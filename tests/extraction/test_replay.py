"""Records that cannot be read wait in `rejected`, and are stored once when they can."""

from dataclasses import replace
from datetime import UTC, datetime

from pipelines.cli import status
from pipelines.extraction.replay import retry_rejected
from pipelines.sdk.contract import Field

ODD = [
    b'{"published":"2026-03-01T09:00:00.000Z","eventType":"no.id"}',
    b'{"uuid":"o-1","eventType":"no.time"}',
    b'{"uuid":7,"published":"2026-03-01T09:00:00.000Z","eventType":"number.as.id"}',
    b"{}",
]


def test_rejected_records_land_once_after_a_fix(still_world):
    world = still_world
    log = world.running.sandbox.log("okta", "system_log")
    for record in ODD:
        log.append(record)
    (report,) = world.poll("okta")
    source = world.source("okta")
    (stream,) = source.streams()
    rejected = report.rejected
    assert rejected >= 3
    now = datetime.now(UTC)
    before = world.stored("okta", "system_log").height
    nothing = retry_rejected(world.lake, source, stream, now)
    assert (nothing.rows, nothing.rejected) == (0, rejected)

    fixed = replace(stream, id=Field(lambda uuid, what: uuid or what, "uuid", "eventType"))
    landed = retry_rejected(world.lake, source, fixed, now)
    assert (landed.rows, landed.rejected, landed.events) == (1, rejected - 1, 1)
    again = retry_rejected(world.lake, source, fixed, now)
    assert (again.rows, again.rejected) == (0, rejected - 1)
    stored = world.stored("okta", "system_log")
    assert stored.height == before + 1
    assert stored.select("event_id", "via").row(-1) == ("no.id", "replay")
    (state,) = status.states(world.lake, [source], now)
    assert state.rejected == rejected - 1
