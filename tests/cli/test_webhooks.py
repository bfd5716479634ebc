"""The commands that register, inspect and remove webhooks."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from pipelines.cli import config_file
from pipelines.webhooks.receiver import Limits
from pipelines.webhooks.spool import Spool
from sandbox.server import Options, running
from tests.cli.command import run
from tests.conftest import World
from tests.webhooks.conftest import SECRET, served


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with running(Options(days=1, per_day=20, rate=0)) as server:
        yield World(running=server, lake=None)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with served(tmp_path_factory.mktemp("spool"), Limits()) as server:
        yield server


def test_the_commands_register_show_and_remove_a_webhook(world, receiver, tmp_path):
    keys = {**world.running.settings()["okta"], "webhook_secret": SECRET}
    console = {**world.running.settings()["atlassian"], "webhook_secret": SECRET}
    document = {"okta": keys, "atlassian": console,
                "entra_id": world.running.settings()["entra_id"]}  # fmt: skip
    text = config_file.document(document, str(tmp_path / "data"), receiver.url)
    (tmp_path / "auditlake.toml").write_text(text)
    active = "okta system_log: webhook active"
    assert active in run(tmp_path, "webhooks", "register", "okta").output
    assert active in run(tmp_path, "status").output
    found = json.loads(run(tmp_path, "webhooks", "status", "--json").output)
    assert [(t["integration"], len(t["subscriptions"])) for t in found] == [
        ("okta", 1), ("atlassian", 0)
    ]  # fmt: skip
    steps = run(tmp_path, "webhooks", "register", "atlassian").output
    assert f"URL: {receiver.url}/atlassian" in steps
    assert f"Bearer {SECRET}" in steps
    none = run(tmp_path, "webhooks", "register", "entra_id")
    assert (none.exit_code, "has no webhooks" in none.output) == (2, True)
    assert run(tmp_path, "webhooks", "remove", "okta").exit_code == 0
    assert "webhook" not in run(tmp_path, "status").output


def test_the_status_counts_deliveries_that_wait_or_cannot_be_read(world, tmp_path):
    keys = {**world.running.settings()["okta"], "webhook_secret": SECRET}
    (tmp_path / "auditlake.toml").write_text(
        config_file.document({"okta": keys}, str(tmp_path / "data"))
    )
    spool = Spool(tmp_path / "data" / "spool", limit=2**20)
    with spool.open():
        for _ in range(3):
            spool.put("okta", {}, b"{}", datetime.now(UTC))
        spool.set_aside(spool.waiting("okta")[0])
    (found,) = json.loads(run(tmp_path, "webhooks", "status", "--json").output)
    assert (found["integration"], found["waiting"], found["odd"]) == ("okta", 2, 1)


def test_the_help_lists_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "webhooks", "--help"], capture_output=True, check=True
    )
    assert all(word in done.stdout.decode() for word in ("register", "status", "remove"))
