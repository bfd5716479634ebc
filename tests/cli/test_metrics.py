"""Metrics agree with `auditlake status`, and no name from outside becomes a label."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines import settings
from pipelines.cli import config_file, metrics
from pipelines.integrity import files
from pipelines.lake import coverage, tables
from pipelines.lake.coverage import Entry
from pipelines.lake.tables import StreamKey
from tests.cli.command import polled, run

OKTA = {"integration": "okta", "stream": "system_log"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A lake that was polled once and verified."""
    made = polled(tmp_path_factory.mktemp("metrics"), 2)
    assert run(made, "verify").exit_code == 0
    return made


def samples(folder):
    """Return the printed samples: name, and labels without those of the stream -> value."""
    answer = run(folder, "metrics")
    assert answer.exit_code == 0
    return {
        (each.name.removeprefix("auditlake_"), *sorted(each.labels.items())): each.value
        for family in text_string_to_metric_families(answer.output)
        for each in family.samples
    }


def test_metrics_show_what_status_shows(folder):
    found, stream = samples(folder), tuple(OKTA.items())
    (shown,) = json.loads(run(folder, "status", "--json").output)
    assert found["rows_total", *stream] == shown["rows"] > 0
    assert found["coverage_ratio", *stream] == shown["coverage"]
    assert found["gap_seconds", *stream] == shown["gap_seconds"] == 0
    assert found["stored_bytes", *stream] == shown["bytes"]
    reached = datetime.fromisoformat(shown["reached"])
    lag = (datetime.now(UTC) - reached).total_seconds()
    assert 0 <= found["lag_seconds", *stream] <= lag
    states = {key[2][1]: value for key, value in found.items() if key[0] == "stream_state"}
    assert [name for name, value in states.items() if value] == [shown["state"]]
    assert found["rounds_total", *stream] == 1
    assert found["commit_seconds_count", *stream] >= 1


def test_metrics_show_the_last_verification_of_each_table(folder):
    found = samples(folder)
    table = ("table", "raw/okta/system_log")
    assert found["verification_success", table] == 1
    age = datetime.now(UTC).timestamp() - found["verification_timestamp_seconds", table]
    assert 0 <= age < 3600


def test_every_metric_is_printed_and_named_by_convention(folder):
    families = list(text_string_to_metric_families(run(folder, "metrics").output))
    assert [each.name for each in families] == [f"auditlake_{each.name}" for each in metrics.ALL]
    units = ("_seconds", "_bytes", "_ratio", "_rows", "_requests", "_deliveries", "_alerts")
    for family in families:
        assert family.documentation.endswith(".")
        known = family.name.endswith((*units, "_success", "_state"))
        assert family.type == "counter" or known, family.name


def test_names_in_the_lake_become_no_labels_unless_they_are_names(folder):
    lake = tables.configured(settings.load(folder / "auditlake.toml"))
    now = datetime.now(UTC)
    odd, other = StreamKey('evil"} 1\n#', "x" * 200), StreamKey("former", "audit")
    for key in (odd, other):
        entry = Entry(since=now - timedelta(hours=2), until=now, asked_at=now, outcome="gone")
        coverage.record(lake, key, [entry])
    held = [
        {"table": 'raw/evil"}/x', "ok": True, "at": now.isoformat()},
        {"table": "events", "ok": "true", "at": "never"},
    ]
    files.of(lake, "integrity").put("verification.json", json.dumps(held).encode())
    text = run(folder, "metrics").output
    assert "evil" not in text
    assert 'auditlake_lost_seconds{integration="former",stream="audit"} 7200.0' in text
    assert 'auditlake_verification_success{table="events"} 0.0' in text
    assert 'auditlake_verification_timestamp_seconds{table="events"}' not in text
    for odd_report in ("[", "7", '["events"]', "[" * 100_000):
        files.of(lake, "integrity").put("verification.json", odd_report.encode())
        assert "auditlake_verification_success{" not in run(folder, "metrics").output


def test_a_configuration_without_integrations_has_metrics_too(tmp_path):
    text = config_file.document({}, str(tmp_path / "data"), integrity=str(tmp_path))
    (tmp_path / "auditlake.toml").write_text(text)
    (tmp_path / "data").mkdir()
    assert samples(tmp_path) == {}
