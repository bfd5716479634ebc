"""Addresses and countries: one form for all spellings."""

import ipaddress

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sdk import geo

V4, V6 = st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None)
PORT = st.integers(0, 65_535)


@given(V4, PORT)
def test_every_spelling_of_an_ipv4_address_becomes_the_same(ip, port):
    spellings = {f"{ip}", f" {ip} ", f"{ip}:{port}", f"[{ip}]:{port}", f"::ffff:{ip}",
                 f"[::FFFF:{ip}]:{port}"}  # fmt: skip
    assert {geo.address(text) for text in spellings} == {str(ip)}


@given(V6, PORT)
def test_every_spelling_of_an_ipv6_address_becomes_the_same(ip, port):
    spellings = {f"{ip}", ip.exploded, ip.exploded.upper(), f"[{ip}]", f"[{ip}]:{port}",
                 f"{ip}%eth0", f"[{ip}%1]:{port}"}  # fmt: skip
    assert {geo.address(text) for text in spellings} == {str(ip)}


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "<null>",
        "Not Available",
        "203.0.113.256",
        "203.0.113.7:http",
        "010.0.0.1",
        "1::2::3",
        "host.example",
        "203.0.113.0/24",
    ],
)
def test_text_without_an_address_gives_none(text):
    assert geo.address(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.7, 10.0.0.1",
        "203.0.113.7,10.0.0.1:8080",
        "unknown, 203.0.113.7",
        '["203.0.113.7","10.0.0.1"]',
        "host.example (203.0.113.7)",
        "host.example ([203.0.113.7]:443)",
        "for=203.0.113.7;proto=https",
        'for="[::ffff:203.0.113.7]:80", for=10.0.0.1',
    ],
)
def test_of_a_list_through_proxies_the_first_address_is_returned(text):
    assert geo.address(text) == "203.0.113.7"


@pytest.mark.parametrize("text", [None, "", "  ", "\t\n"])
def test_blank_text_is_neither_an_address_nor_a_country(text):
    assert geo.address(text) is None
    assert geo.country(text) is None


@given(st.text(max_size=30))
def test_no_text_raises_an_error(text):
    found = geo.address(text)
    assert found is None or ipaddress.ip_address(found)
    assert (geo.country(text) is None) is (not text.strip())


def test_every_country_of_the_cldr_has_its_code():
    names = Locale("en").territories
    codes = {code: name for code, name in names.items() if len(code) == 2 and code.isalpha()}
    assert len(codes) > 240
    assert {code: geo.country(f" {name.upper()} ") for code, name in codes.items()} == {
        code: code for code in codes
    }
    assert all(geo.country(code.lower()) == code for code in codes)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("the Netherlands", "NL"),
        ("Czech Republic", "CZ"),
        ("KOREA, REPUBLIC OF", "KR"),
        ("Iran, Islamic Republic of", "IR"),
        ("usa", "US"),
    ],
)
def test_names_that_vendors_use_have_a_code_too(text, code):
    assert geo.country(text) == code


@pytest.mark.parametrize("text", ["Atlantis", "ZZZ", "001", "U.S.", "Bavaria"])
def test_text_that_is_no_country_is_kept(text):
    assert geo.country(text) == text
