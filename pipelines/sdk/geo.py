"""Normalised IP addresses and country codes."""

from __future__ import annotations

import ipaddress
import re
from functools import cache, lru_cache

from babel import Locale

_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.%]+)\](?::\d+)?")
_V4_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+):\d+")
_SEPARATORS = re.compile(r"""[\s,;|"'()<>]+|(?<![0-9A-Za-z:])for=""")

# Names found in vendors' geolocation data but not in the Unicode CLDR.
_ALIASES = {
    "bolivia, plurinational state of": "BO",
    "bosnia and herzegovina": "BA",
    "cape verde": "CV",
    "congo, the democratic republic of the": "CD",
    "cote d'ivoire": "CI",
    "czech republic": "CZ",
    "hong kong": "HK",
    "iran, islamic republic of": "IR",
    "ivory coast": "CI",
    "korea, republic of": "KR",
    "macao": "MO",
    "macau": "MO",
    "macedonia": "MK",
    "moldova, republic of": "MD",
    "palestine": "PS",
    "republic of korea": "KR",
    "republic of lithuania": "LT",
    "russian federation": "RU",
    "swaziland": "SZ",
    "syrian arab republic": "SY",
    "taiwan, province of china": "TW",
    "the netherlands": "NL",
    "turkey": "TR",
    "united states of america": "US",
    "usa": "US",
    "venezuela, bolivarian republic of": "VE",
    "viet nam": "VN",
}


@lru_cache(maxsize=65536)
def address(text: str | None) -> str | None:
    """Return the first IP address in a text, without port, brackets, zone or IPv4 mapping.

    Of a list through proxies, the first is the client's.
    """
    if not text:
        return None
    return next(filter(None, map(_address, _SEPARATORS.split(text))), None)


def _address(text: str) -> str | None:
    if found := _BRACKETED.fullmatch(text) or _V4_PORT.fullmatch(text):
        text = found[1]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(parsed)


@lru_cache(maxsize=4096)
def country(text: str | None) -> str | None:
    """Return the ISO 3166 alpha-2 code of a country's name or code; other text unchanged."""
    if not text or not (text := text.strip()):
        return None
    if text.upper() in _codes():
        return text.upper()
    return _codes_by_name().get(text.casefold(), text)


@cache
def _codes() -> dict[str, str]:
    territories = Locale("en").territories
    return {code: name for code, name in territories.items() if re.fullmatch("[A-Z]{2}", code)}


@cache
def _codes_by_name() -> dict[str, str]:
    return {name.casefold(): code for code, name in _codes().items()} | _ALIASES
