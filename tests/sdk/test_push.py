"""The webhooks of every integration keep the contract of `Push`."""

import string
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.sdk.push import Endpoint, Subscription

PUSHES = {kind: found.push for kind, found in registry.kinds().items() if found.push}
SECRET = "a-shared-secret-of-some-length"
EMPTY = [{}, {"authorization": ""}, {"authorization": "Bearer "}, {"authorization": "Basic Og=="}]

every_vendor = pytest.mark.parametrize("kind", sorted(PUSHES))


@every_vendor
@pytest.mark.parametrize("headers", EMPTY)
def test_a_delivery_without_the_secret_is_refused(kind, headers):
    assert PUSHES[kind].authentic(headers, SECRET) is False


@every_vendor
@pytest.mark.parametrize("value", ["\u00ff\u00fe", "\x00", "x" * 100_000, SECRET[:-1], "Basic ="])
def test_no_header_makes_authentication_fail_with_an_error(kind, value):
    names = ("authorization", "webhook-authid", "x-goog-channel-token", "x-goog-resource-uri")
    assert PUSHES[kind].authentic(dict.fromkeys(names, value), SECRET) is False


@every_vendor
def test_headers_are_kept_by_lower_case_name_and_never_the_secret(kind):
    kept = PUSHES[kind].keeps
    assert list(kept) == [name.lower() for name in kept]
    assert not {"authorization", "webhook-authid", "x-goog-channel-token"} & set(kept)


@every_vendor
def test_media_types_are_lower_case_and_without_parameters(kind):
    types = PUSHES[kind].media_types
    assert types
    assert all(media == media.lower().strip() and ";" not in media for media in types)


@every_vendor
def test_webhooks_are_set_up_by_an_api_or_by_steps_with_known_placeholders(kind):
    push = PUSHES[kind]
    assert push.subscription_api or push.steps
    names = {name for step in push.steps for _, name, _, _ in string.Formatter().parse(step)}
    assert names <= {None, "address", "secret"}
    assert not push.steps or {"address", "secret"} <= names


@every_vendor
def test_a_challenge_is_answered_only_if_the_vendor_sent_one(kind):
    challenge = PUSHES[kind].challenge
    assert challenge is None or challenge({}) is None


def test_the_secret_of_an_endpoint_is_never_shown():
    endpoint = Endpoint(name="okta", address="https://x", secret=SecretStr(SECRET), streams=["a"])
    assert SECRET not in repr(endpoint)
    assert SECRET not in str(endpoint)


def test_equal_reports_of_a_subscription_are_equal():
    """That is how a renewal finds out that nothing has changed."""
    ends = datetime(2026, 3, 1, tzinfo=UTC)
    assert Subscription(stream="s", id="1", expires=ends) == Subscription(
        stream="s", id="1", expires=ends
    )
    assert Subscription(stream="s", id="1") != Subscription(stream="s", id="1", active=False)
