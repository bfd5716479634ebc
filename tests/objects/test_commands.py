"""The commands of `auditlake` on a lake in an object store on plain http."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from pipelines import settings
from pipelines.cli import config_file
from pipelines.lake import handles, lease, tables
from tests.cli.command import run
from tests.objects.s3 import Fault


@pytest.fixture
def deployment(store, vendors, tmp_path):
    """A folder with a configuration: one stream, and a new lake in the store."""
    okta = {**vendors.settings()["okta"], "streams": ["system_log"]}
    root = f"s3://bucket/{uuid.uuid4().hex}"
    text = config_file.document({"okta": okta}, root, integrity=str(tmp_path / "state"))
    chosen = {**store.options, "timeout": "29s", "proxy_excludes": "localhost", "max_retries": "3"}
    options = "".join(f"{name} = {json.dumps(value)}\n" for name, value in chosen.items())
    text += f"[lake.storage_options]\n{options}"
    (tmp_path / "auditlake.toml").write_text(text)
    return tmp_path


@pytest.mark.parametrize("command", ["poll", "receive"])
def test_a_store_without_conditional_writes_is_refused_at_first_use(store, deployment, command):
    store.order(conditional=False)
    refused = run(deployment, command)
    assert (refused.exit_code, len(refused.output.splitlines())) == (2, 1)
    assert "ignores If-None-Match" in refused.output
    checked = run(deployment, "doctor")
    assert checked.exit_code == 1
    assert "ignores If-None-Match" in checked.output.splitlines()[0]


def test_doctor_fails_on_a_store_that_it_cannot_write(store, deployment):
    store.order(Fault(match="^PUT", kind="denied"))
    checked = run(deployment, "doctor")
    assert checked.exit_code == 1
    assert "403 Forbidden" in checked.output.splitlines()[0]
    assert "test-secret" not in checked.output


def test_commands_send_few_requests(store, deployment, vendors):
    """In a process that stays; a new one opens each table again."""
    for most in (440, 12, 12):
        assert run(deployment, "poll").exit_code == 0
        store.expect(most, "poll")
    record = {"uuid": uuid.uuid4().hex, "eventType": "user.session.start"}
    time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    vendors.sandbox.append(
        "okta", "system_log", [json.dumps({**record, "published": time}).encode()]
    )
    assert "1 new of" in run(deployment, "poll").output
    # About half of them to evaluate the rules; findings of one day or two are read, or none.
    store.expect(66, "poll with news")
    reading = {"status": 45, "search": 15, "export --format ndjson": 40, "verify": 180}
    for command, most in {**reading, "maintain": 400, "maintain ": 300}.items():
        done = run(deployment, *command.split())
        assert done.exit_code == 0, done.output
        store.expect(most, command)


def test_the_page_of_sources_sends_few_requests(store, deployment, monkeypatch):
    for command in ("poll", "maintain"):
        assert run(deployment, command).exit_code == 0
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(deployment / "auditlake.toml"))
    handles.forget()
    store.requests()
    config.set_option("server.address", "127.0.0.1")
    page = AppTest.from_string("from dashboard.screens import sources\nsources.show()")
    page.run(timeout=60)
    assert not page.exception
    store.expect(34, "Sources")  # with no data file of events or raw


def test_one_machine_polls_and_maintains_at_a_time(deployment, vendors, tmp_path, monkeypatch):
    def on(machine, command):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / machine))
        return run(deployment, command)

    assert "rows" in on("first", "poll").output
    sent, _ = vendors.sandbox.requests("okta")
    for _ in range(2):
        waiting = on("second", "poll")
        assert (waiting.exit_code, waiting.output.count("another machine polls")) == (0, 1)
    refused = run(deployment, "backfill", "okta", "--since", "2026-01-01")
    assert (refused.exit_code, "another machine polls" in refused.output) == (1, True)
    assert vendors.sandbox.requests("okta")[0] == sent
    assert on("first", "poll").exit_code == 0
    assert vendors.sandbox.requests("okta")[0] > sent
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "first"))
    with lease.of(
        tables.configured(settings.load(deployment / "auditlake.toml")), "maintenance"
    ).kept():
        assert "another maintenance" in on("second", "maintain").output
