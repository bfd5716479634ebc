"""Authentication of webhooks: every form of the header, and none that is nearly right."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import registry
from pipelines.errors import ConfigurationError
from pipelines.sdk import webhook_auth

SECRET = "a-shared-secret-of-some-length"


def basic(credentials):
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"  {SECRET}  ",
        f"Bearer {SECRET}",
        f"bearer   {SECRET}",
        basic(f"auditlake:{SECRET}"),
        basic(f":{SECRET}").replace("Basic", "BASIC"),
    ],
)
def test_the_secret_is_accepted_bare_as_a_token_and_as_a_password(value):
    assert webhook_auth.authorised({"authorization": value}, SECRET)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {SECRET[:-1]}",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET.upper()}",
        f"Digest {SECRET}",
        f"Bearer Bearer {SECRET}",
        f"{SECRET} {SECRET}",
        f"Basic {SECRET}",
        basic(SECRET),
        basic(f"{SECRET}:auditlake"),
        basic(f"auditlake:{SECRET}")[:-3],
        "Basic !!!!",
        "Basic \u00e4\u00f6",
        "Basic //8=",
        f"\x00{SECRET}",
        f"{SECRET}\u00e9",
        f"{SECRET}\udcff",
    ],
)
def test_anything_else_is_refused_without_an_error(value):
    assert not webhook_auth.authorised({"authorization": value}, SECRET)


def test_a_request_without_the_header_is_refused():
    assert not webhook_auth.authorised({}, SECRET)
    assert not webhook_auth.authorised({"x-authorization": SECRET}, SECRET)


@pytest.mark.parametrize("secret", ["", " ", "short", "x" * 15])
def test_a_secret_that_is_empty_or_short_is_no_valid_configuration(secret):
    """An empty secret would equal a header that is missing."""
    keys = {"base_url": "https://acme.okta.com", "api_token": "t", "webhook_secret": secret}
    with pytest.raises(ConfigurationError, match="webhook_secret"):
        registry.source("okta", keys)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(alphabet="ab\u00e9\U0001f511"))
def test_only_equal_texts_are_the_same(given_, secret):
    assert webhook_auth.same(given_, secret) is (given_ == secret)
    assert webhook_auth.same(secret, secret)


class Bytes(bytes):
    """Bytes that may be compared by hmac only: == stops at the first byte that differs."""

    def __eq__(self, _):
        raise AssertionError("compared with ==")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None


class Text(str):
    __slots__ = ()

    def __eq__(self, _):
        raise AssertionError("compared with ==")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__
    __hash__ = None

    def encode(self, *options):
        return Bytes(super().encode(*options))


@pytest.mark.parametrize("given_", [SECRET, "another", "", SECRET + "\u00e9"])
def test_the_secret_is_compared_in_constant_time(given_):
    assert webhook_auth.same(Text(given_), Text(SECRET)) is (given_ == SECRET)
