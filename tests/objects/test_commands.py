"""The commands of `auditlake` on a lake in an object store on plain http."""

import json
import uuid

import pytest

from pipelines.cli import config_file
from tests.cli.command import run
from tests.objects.s3 import Fault


@pytest.fixture
def deployment(store, vendors, tmp_path):
    """A folder with a configuration: one stream, and a new lake in the store."""
    okta = {**vendors.settings()["okta"], "streams": ["system_log"]}
    root = f"s3://bucket/{uuid.uuid4().hex}"
    text = config_file.document({"okta": okta}, root, integrity=str(tmp_path / "state"))
    options = "".join(f"{name} = {json.dumps(value)}\n" for name, value in store.options.items())
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
