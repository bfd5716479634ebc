"""The commands for webhooks, on configurations that need no vendor."""

import json

import pytest

from pipelines.cli import config_file, webhooks
from pipelines.cli.main import main
from tests.cli.command import run

OKTA = {"base_url": "https://example.okta.com", "api_token": "token"}
SECRET = "a-webhook-secret-of-36-characters-000"


@pytest.fixture
def folder(tmp_path):
    def configure(**keys):
        text = config_file.document({"okta": {**OKTA, **keys}}, str(tmp_path / "data"))
        (tmp_path / "auditlake.toml").write_text(text)
        return tmp_path

    return configure


def test_all_commands_are_registered():
    assert {"receive", "webhooks"} <= set(main.commands)
    assert set(webhooks.webhooks_.commands) == {"register", "status", "remove"}


def test_an_integration_without_a_secret_has_no_status(folder):
    done = run(folder(), "webhooks", "status", "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, [])


def test_nothing_is_registered_and_nothing_waits_at_first(folder):
    where = folder(webhook_secret=SECRET)
    done = run(where, "webhooks", "status")
    assert (done.exit_code, done.output) == (0, "okta: no webhook registered through the API\n")
    (found,) = json.loads(run(where, "webhooks", "status", "--json").output)
    assert found == {"integration": "okta", "waiting": 0, "odd": 0, "subscriptions": []}


def test_registering_requires_a_secret_and_never_prints_it(folder):
    done = run(folder(), "webhooks", "register", "okta")
    assert done.exit_code == 2
    assert "webhook_secret" in done.output
    done = run(folder(webhook_secret=SECRET), "webhooks", "register", "okta")
    assert done.exit_code == 2
    assert "webhooks.public_url" in done.output
    assert SECRET not in done.output


def test_receiving_beyond_loopback_is_refused_without_secrets(folder):
    done = run(folder(), "receive", "--host", "0.0.0.0", "--port", "0")
    assert done.exit_code == 2
    assert "webhook_secret" in done.output
