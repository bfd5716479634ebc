"""Which addresses lie in networks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

import polars as pl

from pipelines.sdk import geo

Network = IPv4Network | IPv6Network


def parsed(text: str) -> Network | None:
    """Return a network such as 203.0.113.0/24; None for other texts, single addresses included."""
    address, slash, _ = text.partition("/")
    try:
        return ip_network(text, strict=False) if slash and ip_address(address) else None
    except ValueError:
        return None


def contain(networks: Sequence[Network], texts: pl.Series) -> pl.Series:
    """Return for each text whether the address in it lies in one of the networks."""
    four = _ranges(each for each in networks if isinstance(each, IPv4Network))
    six = _ranges(each for each in networks if isinstance(each, IPv6Network))
    addresses = ((text, geo.address(text)) for text in texts.drop_nulls().unique())
    inside = [
        text
        for text, found in addresses
        if found and _lies_in(six if ":" in found else four, found)
    ]
    return texts.is_in(pl.Series(inside, dtype=pl.String))


def _ranges(networks: Iterable[Network]) -> list[tuple[int, int]]:
    merged = collapse_addresses(networks)  # type: ignore[type-var]  # of one version each
    return sorted((int(each.network_address), int(each.broadcast_address)) for each in merged)


def _lies_in(ranges: list[tuple[int, int]], address: str) -> bool:
    number = int(ip_address(address))
    place = bisect_right(ranges, number, key=lambda each: each[0])
    return place > 0 and number <= ranges[place - 1][1]
