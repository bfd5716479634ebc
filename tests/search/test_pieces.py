"""Terms of a search are edited, removed and inverted one by one."""

from __future__ import annotations

import pytest
from hypothesis import given

from pipelines.search import parser, pieces
from pipelines.search.terms import Node, Not, SearchError
from tests.search import drawn
from tests.search.drawn import Drawn


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  ada ", ["ada"]),
        ('ada AND -outcome:success  "access key"', ["ada", "-outcome:success", '"access key"']),
        ("actor:(ada, grace) NOT (a OR b)", ["actor:(ada, grace)", "NOT (a OR b)"]),
        ("ada OR grace download", ["ada OR grace download"]),
        ("203.0.113.67, 198.51.100.9", ["203.0.113.67, 198.51.100.9"]),
        ("time>=2026-11-17 08:00 okta", ["time>=2026-11-17 08:00", "okta"]),
        ("203.0.113.67\n198.51.100.9", ["203.0.113.67, 198.51.100.9"]),
    ],
)
def test_a_search_is_split_into_the_terms_that_all_have_to_match(
    text: str, terms: list[str]
) -> None:
    assert pieces.split(text) == terms


def test_a_search_that_is_not_understood_is_not_split() -> None:
    with pytest.raises(SearchError):
        pieces.split("actor:(ada")


@pytest.mark.parametrize(
    ("piece", "opposite"),
    [
        ("ada", "-ada"),
        ("-ada", "ada"),
        ("NOT ada", "ada"),
        ("outcome:success", "-outcome:success"),
        ("a OR b", "-(a OR b)"),
        ("-(a OR b)", "a OR b"),
        ("time<2026-11-17", "-time<2026-11-17"),
        ("--x", "-(--x)"),
        ("1.2.3.4, 5.6.7.8", "-(1.2.3.4, 5.6.7.8)"),
    ],
)
def test_a_term_is_inverted_in_its_plainest_form(piece: str, opposite: str) -> None:
    assert pieces.inverted(piece) == opposite


def test_a_piece_with_alternatives_gets_brackets_among_others() -> None:
    assert pieces.replaced("ada okta", 1, "okta OR entra_id") == "ada (okta OR entra_id)"
    assert pieces.replaced("ada okta", 0) == "okta"
    assert pieces.replaced("ada", 0) == ""


def test_a_word_that_is_left_alone_does_not_become_a_list() -> None:
    assert pieces.replaced("ada 1.2.3.4,5.6.7.8", 0) == '"1.2.3.4,5.6.7.8"'


@given(drawn.searches)
def test_the_pieces_of_any_search_mean_what_the_search_means(search: Drawn) -> None:
    node = parser.parse(search.text)
    found = pieces.split(search.text)
    assert _plain(parser.parse(pieces.joined(found))) == _plain(node)
    for piece in found:
        alone, opposite = parser.parse(piece), parser.parse(pieces.inverted(piece))
        assert opposite == Not(part=alone) or alone == Not(part=opposite)


def _plain(node: Node) -> str:
    return repr(node).replace("quoted=True", "quoted=False")
