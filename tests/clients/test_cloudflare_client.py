"""Cloudflare's own client reads the simulated Cloudflare without complaint."""

from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("cloudflare", reason="make test-clients installs it")

from cloudflare import AuthenticationError, BadRequestError, Cloudflare

from sandbox import server
from sandbox.server import Options
from sandbox.services import cloudflare
from tests.sandbox.receivers import receiving

pytestmark = pytest.mark.clients


@pytest.fixture
def box():
    with server.running(Options(seed=5, days=12, per_day=400, rate=0)) as running:
        yield running


def client(box, token=cloudflare.API_TOKEN):
    base_url = f"{box.base_url}/cloudflare/client/v4"
    return Cloudflare(api_token=token, base_url=base_url, max_retries=0)


def ids(box, stream):
    return {entry.id for entry in box.sandbox.ledger("cloudflare", stream)}


def span():
    now = datetime.now(UTC)
    return {"since": now - timedelta(days=30), "before": now + timedelta(days=1)}


@pytest.mark.parametrize("account", [cloudflare.ACCOUNT_ID, cloudflare.ACCOUNT_WITH_CURSORS])
def test_both_versions_are_read_to_their_end(box, account):
    asked = {"account_id": account, "direction": "asc"}
    with client(box) as api:
        first = [e.id for e in api.audit_logs.list(**asked, per_page=100)]
        second = [e.id for e in api.accounts.logs.audit.list(**asked, **span(), limit=100)]
    assert sorted(first) == sorted(ids(box, "audit_logs"))
    assert sorted(second) == sorted(ids(box, "audit_logs_v2"))
    assert len(second) > 200


def test_the_client_ignores_the_other_place_of_the_cursor(box):
    asked = {"account_id": cloudflare.ACCOUNT_WITH_CURSOR, "direction": "asc", **span()}
    with client(box) as api:
        page = api.accounts.logs.audit.list(**asked, limit=100)
        assert page.model_dump()["result_info"]["cursor"]
        assert len(list(page)) == 100


def test_the_client_raises_its_own_error_for_a_wrong_token(box):
    with client(box, "wrong") as api, pytest.raises(AuthenticationError):
        list(api.audit_logs.list(account_id=cloudflare.ACCOUNT_ID))


def test_the_client_creates_updates_and_deletes_a_logpush_job(box):
    account = {"account_id": cloudflare.ACCOUNT_ID}
    with receiving() as receiver, client(box) as api:
        destination = f"{receiver.url}/cloudflare?header_Authorization=Bearer%20secret"
        checked = api.logpush.validate.destination(**account, destination_conf=destination)
        assert checked.valid
        made = api.logpush.jobs.create(
            **account,
            dataset="audit_logs",
            destination_conf=destination,
            enabled=True,
            output_options={"timestamp_format": "rfc3339"},
        )
        assert len(receiver.got) == 2
        assert receiver.got[1].headers["authorization"] == "Bearer secret"
        assert [job.id for job in api.logpush.jobs.list(**account)] == [made.id]
        assert "ActionType" in api.logpush.datasets.fields.get("audit_logs", **account)
        assert api.logpush.jobs.update(made.id, **account, enabled=False).enabled is False
        api.logpush.jobs.delete(made.id, **account)
        assert list(api.logpush.jobs.list(**account)) == []
        with pytest.raises(BadRequestError, match="unknown field"):
            api.logpush.jobs.create(
                **account,
                dataset="audit_logs",
                destination_conf=destination,
                output_options={"field_names": ["NoSuchField"]},
            )
