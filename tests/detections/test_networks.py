"""Which addresses lie in networks."""

from ipaddress import ip_network

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pipelines.detections import networks

drawn = st.ip_addresses(v=4, network="10.0.0.0/28")


@given(st.lists(st.tuples(drawn, st.integers(26, 32))), drawn)
def test_networks_contain_what_any_of_them_contains(pairs, address):
    within = [ip_network(f"{each}/{length}", strict=False) for each, length in pairs]
    found = networks.contain(within, pl.Series([str(address)]))
    assert found.to_list() == [any(address in network for network in within)]


def test_texts_that_are_no_networks_are_not_taken_for_one():
    for text in ("10.0.0.1", "a/b", "/24", "10.0.0.0/33", "http://10.0.0.1/24"):
        assert networks.parsed(text) is None
