"""Which events a search finds."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schemas import EVENTS
from pipelines.search import compiler, parser
from pipelines.search.terms import Network, Term, Word
from tests.dashboard.small_lakes import blank

ROWS = [
    {"actor_email": "ada@acme.example", "action": "user.session.start", "outcome": "success"},
    {"actor_name": "Grace", "action": "download", "outcome": "failure", "country": "DE"},
    {"actor_id": "arn:aws:iam::1:role/x", "message": "New Access Key made", "country": ""},
    {
        "actor_email": "Élodie@acme.example",
        "target_name": "Safe",
        "targets": [
            {"id": "7", "name": "Vault", "type": "t"},
            {"id": "8", "name": "Box", "type": "t"},
            {"id": "9", "name": "", "type": "t"},
        ],
    },
]
TIMES = [{"time": datetime(2026, 11, day, tzinfo=UTC)} for day in (16, 17, 18, 19)]
FRAME = pl.DataFrame(
    [blank() | row | time for row, time in zip(ROWS, TIMES, strict=True)], schema=EVENTS
).with_row_index("row")


@pytest.mark.parametrize(
    ("text", "streams"),
    [
        ("", "abc"),
        ("integration:a", "a"),
        ("NOT integration:a", "bc"),
        ("-integration:(a, b)", "c"),
        ("integration:a OR kind:c", "ac"),
        ("integration:a AND actor:ada", "a"),
        ("integration:a OR actor:ada", "abc"),
        ("NOT (integration:a AND actor:ada)", "abc"),
        ("NOT (integration:a OR actor:ada)", "bc"),
        ("ada integration:A*", "a"),
        ("integration:a integration:b", ""),
        ("time>2026-11-17 -source:c", "ab"),
    ],
)
def test_a_search_may_find_events_of_these_streams_only(text: str, streams: str) -> None:
    names = pl.DataFrame({"integration": list("abc"), "kind": list("abc")})
    condition = compiler.possible(parser.parse(text), names.columns)
    assert "".join(names.filter(condition)["integration"]) == streams


def found(text: str) -> list[int]:
    expressions = compiler.expressions(parser.parse(text))
    return FRAME.filter(pl.all_horizontal(True, *expressions))["row"].to_list()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("actor:ada@acme.example", [0]),
        ("user:ADA*", [0]),
        ("actor:grace,ada*", [0, 1]),
        ("-actor:grace,ada*", [2, 3]),
        ("outcome:success download", []),
        ("-outcome:success", [1, 2, 3]),
        ('"access key"', [2]),
        ('-"access key" -download', [0, 3]),
        ("country:*", [1]),
        ('country:""', [0, 2, 3]),
        ("arn:aws:iam::1:role/x", [2]),
        ("sess*start", [0]),
        ("vault", [3]),
        ("target:vault", [3]),
        ("target:b*", [3]),
        ("target=Vault,nothing", [3]),
        ("target:9", [3]),
        ("target:8", []),
        ("-target:vault", [0, 1, 2]),
        ("target:*", [3]),
        ('target:""', [0, 1, 2]),
        ("actor:éLODIE*", [3]),
        ("élodie", [3]),
        ('"nothing:here"', []),
        ("user.session.start", [0]),
        ("user?session", []),
        ("download OR vault", [1, 3]),
        ("NOT (download OR vault)", [0, 2]),
        ("actor=Grace", [1]),
        ("actor=grace", []),
        ("actor:(grace ada*)", [0, 1]),
        ("time>=2026-11-17 time<2026-11-19", [1, 2]),
        ("time>2026-11-17", [2, 3]),
        ("not ingested_at<=2026-11-17", [0, 1, 2, 3]),
        ("(vault, download)", [1, 3]),
    ],
)
def test_a_search_finds_the_expected_rows(text: str, rows: list[int]) -> None:
    assert found(text) == rows


HIDDEN = [
    {"actor_email": "ad\u200bmin@acme.example", "message": "plain"},
    {
        "actor_name": "\u0430dmin",
        "targets": [{"id": "1", "name": "M\u00fc\u2060ller", "type": "t"}],
    },
    {"actor_id": "admin\x00"},
    {"message": "\U0001d41admin\xa0role", "user_agent": "a\u202edmin"},
    {"actor_email": "admin", "message": "\u0421\u0430\u0440\u0430"},
]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("admin", [0, 1, 2, 3, 4]),
        ("-admin", []),
        ("adm*n", [0, 1, 2, 3, 4]),
        ('"admin role"', [3]),
        ("m\u00fcller", [1]),
        ("actor:admin", [1, 2, 4]),
        ("actor:admin*", [0, 1, 2, 4]),
        ("actor:(admin, other)", [1, 2, 4]),
        ("actor=admin", [4]),
        ("ad\u200bmin", [0]),
        ("capa", []),
        ("\u0441\u0430\u0440\u0430", [4]),
        ("actor:*", [0, 1, 2, 4]),
        ('actor:""', [3]),
        ('actor:"*"', []),
    ],
)
def test_hidden_and_imitated_characters_do_not_hide_an_event(text: str, rows: list[int]) -> None:
    frame = pl.DataFrame([blank() | row for row in HIDDEN], schema=EVENTS).with_row_index("row")
    condition = pl.all_horizontal(True, *compiler.expressions(parser.parse(text)))
    assert frame.filter(condition)["row"].to_list() == rows
    assert frame.lazy().filter(condition).collect(engine="streaming")["row"].to_list() == rows


def test_columns_known_to_hide_nothing_are_read_once() -> None:
    known = {None: compiler.EVERYWHERE}
    for text in ("admin", "actor:admin*", "target:x"):
        assert "python" in str(compiler.expressions(parser.parse(text))[0]).lower()
        assert "python" not in str(compiler.expressions(parser.parse(text), known)[0]).lower()


V4 = st.ip_addresses(v=4) | st.integers(0, 1023).map(lambda n: ipaddress.ip_address(0xCB007100 + n))
V6 = st.ip_addresses(v=6) | st.integers(0, 2**20).map(
    lambda n: ipaddress.ip_address((0x20010DB8 << 96) + (n << 60))
)


@given(
    addresses=st.lists(V4 | V6, min_size=1, max_size=8), base=V4 | V6, prefix=st.integers(0, 128)
)
def test_a_network_holds_the_same_addresses_as_in_python(
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
    base: ipaddress.IPv4Address | ipaddress.IPv6Address,
    prefix: int,
) -> None:
    prefix = min(prefix, base.max_prefixlen)
    network = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    texts = [str(address) for address in addresses]
    frame = pl.DataFrame(
        {"source_ip": [*texts, None, "", "no: address", "1.2.3.4.5"]}
    ).with_row_index("row")
    term = Term(field="source_ip", words=(Network(network=network),))
    rows = frame.filter(*compiler.expressions(term))["row"].to_list()
    assert rows == [n for n, address in enumerate(addresses) if address in network]


@pytest.mark.parametrize(
    ("text", "nowhere", "vain"),
    [
        ("gone", {"gone"}, True),
        ("gone here", {"gone"}, True),
        ("gone or here", {"gone"}, False),
        ("gone or lost", {"gone", "lost"}, True),
        ("gone, here", {"gone"}, False),
        ("not gone", {"gone"}, False),
        ("not (gone here)", {"gone"}, False),
        ("ip:1.2.3.4", {"1.2.3.4"}, False),
    ],
)
def test_a_file_is_skipped_only_if_no_event_in_it_can_match(
    text: str, nowhere: set[str], vain: bool
) -> None:
    known = {Word(text=text): compiler.EVERYWHERE for text in nowhere}
    assert compiler.in_vain(parser.parse(text), known) is vain
