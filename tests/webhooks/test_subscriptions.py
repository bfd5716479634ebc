"""Webhooks are registered, inspected, renewed and removed; each vendor is authenticated its way."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipelines import settings
from pipelines.sdk.push import Delivery
from pipelines.webhooks import subscriptions
from pipelines.webhooks.receiver import Limits
from sandbox.server import Options, running
from tests.conftest import World
from tests.webhooks.conftest import SECRET, served, source

APIS = ["okta", "cloudflare", "office_365", "google_workspace"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with running(Options(days=1, per_day=20, rate=0)) as server:
        yield World(running=server, lake=None)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with served(tmp_path_factory.mktemp("spool"), Limits()) as server:
        yield server


def chosen(receiver):
    return settings.Settings(webhooks={"public_url": receiver.url})


@pytest.mark.parametrize("kind", APIS)
def test_a_subscription_is_registered_refreshed_renewed_and_removed(
    world, receiver, tmp_path, kind
):
    ours, now = world.source(kind, webhook_secret=SECRET), datetime.now(UTC)
    at = subscriptions.endpoint(chosen(receiver), ours)
    assert subscriptions.renew(ours, at, tmp_path, now) is None  # nothing is registered yet
    registered = subscriptions.register(ours, at, tmp_path, now)
    assert registered.known
    assert all(each.active for each in registered.known)
    assert {each.stream for each in subscriptions.refresh(ours, at, tmp_path, now).known} == {
        each.stream for each in registered.known
    }
    again = subscriptions.register(ours, at, tmp_path, now)
    assert len(again.known) == len(registered.known)
    assert subscriptions.renew(ours, at, tmp_path, now) == again
    subscriptions.remove(ours, at, tmp_path)
    assert subscriptions.load(tmp_path, kind) is None
    assert list(subscriptions.refresh(ours, at, tmp_path, now).known) == []
    assert SECRET not in repr(at) + repr(registered)


def test_channels_that_expire_soon_are_replaced(world, receiver, tmp_path):
    ours, now = (
        world.source("google_workspace", webhook_secret=SECRET, streams=["admin"]),
        datetime.now(UTC),
    )
    at = subscriptions.endpoint(chosen(receiver), ours)
    (first,) = subscriptions.register(ours, at, tmp_path, now).known
    assert timedelta(hours=5) < first.expires - now <= timedelta(hours=6)
    (same,) = subscriptions.renew(ours, at, tmp_path, now + timedelta(hours=4)).known
    (other,) = subscriptions.renew(ours, at, tmp_path, now + timedelta(hours=5, minutes=5)).known
    assert (same.id, other.id == first.id) == (first.id, False)


def test_a_deactivated_webhook_is_activated_again(world, receiver, tmp_path):
    ours, now = world.source("okta", webhook_secret=SECRET), datetime.now(UTC)
    at = subscriptions.endpoint(chosen(receiver), ours)
    (hook,) = subscriptions.register(ours, at, tmp_path, now).known
    with subscriptions.management_client(ours) as client:
        client.post(f"/api/v1/eventHooks/{hook.id}/lifecycle/deactivate")
    later = now + timedelta(hours=1)
    (again,) = subscriptions.renew(ours, at, tmp_path, later).known
    assert (again.id, again.active) == (hook.id, True)
    subscriptions.remove(ours, at, tmp_path)


def test_an_unreachable_address_is_reported_with_its_remedy(world, tmp_path):
    ours = world.source("office_365", webhook_secret=SECRET)
    nobody = settings.Settings(webhooks={"public_url": "http://127.0.0.1:9"})
    with pytest.raises(subscriptions.AuditlakeError, match="auditlake receive"):
        subscriptions.register(
            ours, subscriptions.endpoint(nobody, ours), tmp_path, datetime.now(UTC)
        )


def test_a_secret_must_be_long_and_its_integration_must_have_webhooks():
    with pytest.raises(subscriptions.ConfigurationError, match="16 to 128"):
        source("okta", webhook_secret="short")
    with pytest.raises(subscriptions.ConfigurationError, match="has no webhooks"):
        source_of_entra()


def source_of_entra():
    from pipelines import registry

    keys = {"tenant_id": "t", "client_id": "c", "client_secret": "x" * 20}
    registry.source("entra_id", {**keys, "webhook_secret": SECRET})


@pytest.mark.parametrize(
    "given", [SECRET, f"Bearer {SECRET}", f"bearer {SECRET}",
              "Basic " + base64.b64encode(f"auditlake:{SECRET}".encode()).decode()],
)  # fmt: skip
def test_the_secret_is_accepted_in_every_form_that_vendors_send(receiver, given):
    headers = {"Authorization": given, "Content-Type": "application/json"}
    body = b'{"data":{"events":[]}}'
    assert httpx.post(f"{receiver.url}/okta", content=body, headers=headers).status_code == 200


def google(application, token_of, state="CREATE_USER", secret=SECRET):
    uri = f"https://admin.googleapis.com/admin/reports/v1/activity/users/all/applications/{application}?alt=json"
    token = hmac.new(secret.encode(), token_of.encode(), hashlib.sha256).hexdigest()
    return {"X-Goog-Resource-URI": uri, "X-Goog-Channel-Token": token,
            "X-Goog-Resource-State": state, "Content-Type": "application/json; utf-8"}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status", "kept"),
    [
        (google("admin", "admin"), 200, 1),
        (google("admin", "admin", state="sync"), 200, 0),
        (google("drive", "admin"), 401, 0),  # a token is valid for its own application only
        (google("admin", "admin", secret="x" * 32), 401, 0),
    ],
)
def test_a_message_of_google_is_authenticated_by_its_channel_token(receiver, headers, status, kept):
    answer = httpx.post(f"{receiver.url}/google_workspace", content=b"{}", headers=headers)
    assert answer.status_code == status
    waiting = receiver.spool.waiting("google_workspace")
    assert len(waiting) == kept
    receiver.spool.remove(waiting)


@pytest.mark.parametrize(
    ("authid", "status"), [(SECRET, 200), ("", 401), (SECRET.upper(), 401), (f"{SECRET}0", 401)]
)
def test_office_365_is_authenticated_by_its_webhook_auth_id(receiver, authid, status):
    headers = {"Webhook-AuthID": authid, "Webhook-ValidationCode": "c",
               "Content-Type": "application/json; charset=utf-8"}  # fmt: skip
    body = b'{"validationCode":"c"}'
    answer = httpx.post(f"{receiver.url}/office_365", content=body, headers=headers)
    assert (answer.status_code, receiver.spool.waiting("office_365")) == (status, [])


def test_notifications_of_other_tenants_and_content_types_are_ignored():
    ours = source("office_365")
    items = [{"tenantId": "other", "contentType": "Audit.Exchange"},
             {"tenantId": "TENANT", "contentType": "Audit.Unheard"},
             {"tenantId": "TENANT", "contentType": "Audit.Exchange"}]  # fmt: skip
    delivery = Delivery(headers={}, body=json.dumps(items).encode())
    items = ours.integration.push.read(ours.settings, delivery)
    assert [each.stream for each in items] == ["exchange"]


def test_the_test_upload_of_logpush_is_skipped_and_datasets_are_distinguished():
    ours = source("cloudflare")
    body = b'{"content":"tests"}\n{"ID":"1"}\n{"AuditLogID":"2"}\n{"ID":"3"}\n'
    items = ours.integration.push.read(ours.settings, Delivery(headers={}, body=body))
    assert [(each.stream, len(each.records)) for each in items] == [
        ("audit_logs", 2), ("audit_logs_v2", 1)
    ]  # fmt: skip
