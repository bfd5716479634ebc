"""The state of each stream, as the command line prints it."""

import json
from datetime import UTC, datetime, timedelta

from pipelines.lake import coverage, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from tests.cli.command import auditlake, configure


def test_status_and_coverage_show_streams_that_are_only_configured_or_only_in_the_lake(
    still_world, tmp_path
):
    configure(still_world, tmp_path)
    lake, other = Lake(str(tmp_path / "data")), StreamKey("former", "audit")
    now = datetime.now(UTC).replace(microsecond=0)
    hours = [now - timedelta(hours=n) for n in range(4)]
    streams.record(lake, other, Facts(kind="okta", title="Okta", keeps=timedelta(days=9)), now)
    gone = Entry(since=hours[2], until=hours[1], asked_at=now, outcome="gone", reason="404: blob")
    done = Entry(since=hours[3], until=now, asked_at=now)
    failed = Entry(since=now, until=now, asked_at=now, outcome="failed", reason="401: bad token")
    coverage.record(lake, other, [done, gone, failed])
    found = json.loads(auditlake(tmp_path, "status", "--json").stdout)
    assert [(one["integration"], one["kind"], one["state"]) for one in found] == [
        ("okta", "okta", "never polled"),
        ("former", "okta", "failing"),
    ]
    assert (found[1]["failure"], found[1]["gaps"]) == ("401: bad token", 1)
    text = auditlake(tmp_path, "status").stdout.decode()
    assert f"former audit: failing since {now:%Y-%m-%d %H:%M:%S} UTC: 401: bad token" in text
    text = auditlake(tmp_path, "coverage", "former").stdout.decode()
    assert text.splitlines()[0] == "former audit"
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["complete", "complete", "LOST"]
    assert auditlake(tmp_path, "coverage", "unknown").returncode == 2
