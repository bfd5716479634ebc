"""Links between pages: relative to base_url, and never followed to another host."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ForeignLink
from pipelines.sdk import links

CLIENT = httpx.Client(base_url="https://acme.okta.com/api/v1/")


@pytest.mark.parametrize(
    ("link", "relative"),
    [
        ("https://acme.okta.com/api/v1/logs?after=1%2F2&limit=10", "/logs?after=1%2F2&limit=10"),
        ("https://ACME.okta.com:443/api/v1/logs", "/logs"),
        ("/api/v1/logs?after=1", "/logs?after=1"),
        ("logs?after=1", "/logs?after=1"),
        ("https://acme.okta.com/api/v1/logs#top", "/logs"),
        ("https://someone:else@acme.okta.com/api/v1/logs", "/logs"),
    ],
)
def test_a_link_of_the_service_itself_becomes_relative_to_base_url(link, relative):
    assert links.own_link(CLIENT, link) == relative


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api/v1/logs",
        "//evil.example/api/v1/logs",
        "https://acme.okta.com.evil.example/api/v1/logs",
        "https://acme.okta.com@evil.example/api/v1/logs",
        "http://acme.okta.com/api/v1/logs",
        "https://acme.okta.com:8443/api/v1/logs",
        "file:///api/v1/logs",
    ],
)
def test_a_link_to_another_host_scheme_or_port_is_refused(link):
    with pytest.raises(ForeignLink, match=r"instead of https://acme\.okta\.com: not followed"):
        links.own_link(CLIENT, link)


@pytest.mark.parametrize("path", ["/api/v2/logs", "/api/v1", "/api/v1x/logs", "/api/v1/../admin"])
def test_a_link_outside_the_path_of_base_url_is_refused(path):
    with pytest.raises(ForeignLink, match="outside base_url"):
        links.own_link(CLIENT, f"https://acme.okta.com{path}")


def test_the_error_about_a_foreign_link_omits_its_path_and_password():
    with pytest.raises(ForeignLink) as error:
        links.own_link(CLIENT, "https://user:s3cret@evil.example/t0ken?key=s3cret")
    assert "evil.example" in str(error.value)
    assert "s3cret" not in str(error.value)
    assert "t0ken" not in str(error.value)


@given(st.text(max_size=30))
def test_whatever_a_link_contains_the_request_goes_to_base_url(text):
    try:
        relative = links.own_link(CLIENT, text)
    except (ForeignLink, httpx.InvalidURL):
        return
    url = CLIENT.build_request("GET", relative).url
    assert (url.scheme, url.host, url.port) == ("https", "acme.okta.com", None)


def test_a_link_survives_a_new_base_url():
    """A cursor made before the operator changed base_url is still valid after."""
    cursor = links.own_link(CLIENT, "https://acme.okta.com/api/v1/logs?after=7")
    moved = httpx.Client(base_url="http://127.0.0.1:9/okta/api/v1")
    assert str(moved.build_request("GET", cursor).url) == (
        "http://127.0.0.1:9/okta/api/v1/logs?after=7"
    )


def test_the_next_link_is_found_among_others():
    header = (
        '<https://acme.okta.com/api/v1/logs?limit=9>; rel="self", '
        '<https://acme.okta.com/api/v1/logs?after=7>; rel="next"'
    )
    response = httpx.Response(200, headers={"Link": header})
    assert links.next_link(CLIENT, response) == "/logs?after=7"


@pytest.mark.parametrize("header", [None, "", "no link at all", '<https://x.example>; rel="self"'])
def test_a_last_page_has_no_next_link(header):
    headers = {} if header is None else {"Link": header}
    assert links.next_link(CLIENT, httpx.Response(200, headers=headers)) is None
