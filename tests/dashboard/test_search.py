"""The query language of the search box."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import fields, search
from dashboard.search import Term, Word
from pipelines.schemas import EVENTS
from tests.dashboard.small_lakes import blank

bare = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters='",:-'), min_size=1
).map(lambda text: Word(text=text))
quoted = st.text(min_size=1).map(lambda text: Word(text=text, quoted=True))
word = bare | quoted
field_words = st.lists(word, min_size=1, max_size=3).map(tuple)
term = st.builds(
    Term, field=st.sampled_from(fields.NAMES), words=field_words, negated=st.booleans()
) | st.builds(Term, words=word.map(lambda one: (one,)), negated=st.booleans())

ROWS = [
    {"actor_email": "ada@acme.example", "action": "user.session.start", "outcome": "success"},
    {"actor_name": "Grace", "action": "download", "outcome": "failure", "country": "DE"},
    {"actor_id": "arn:aws:iam::1:role/x", "message": "New Access Key made", "country": ""},
    {"actor_email": "Élodie@acme.example", "targets": [{"id": "7", "name": "Vault", "type": "t"}]},
]
FRAME = pl.DataFrame([blank() | row for row in ROWS], schema=EVENTS).with_row_index("row")


def found(text: str) -> list[int]:
    expressions = search.expressions(search.parse(text))
    return FRAME.filter(pl.all_horizontal(True, *expressions))["row"].to_list()


@given(st.lists(term, max_size=4).map(tuple))
def test_shown_terms_parse_to_themselves(terms: tuple[Term, ...]) -> None:
    assert search.parse(search.show(terms)) == terms


@given(st.text())
def test_any_text_can_be_searched_for(text: str) -> None:
    assert set(found(text)) <= set(FRAME["row"])


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
        ("actor:éLODIE*", [3]),
        ("élodie", [3]),
        ("nothing:here", []),
        ("user.session.start", [0]),
        ("user?session", []),
    ],
)
def test_a_search_finds_the_expected_rows(text: str, rows: list[int]) -> None:
    assert found(text) == rows


def test_a_mistyped_field_is_reported_and_a_pasted_url_is_not() -> None:
    assert search.unknown_fields("acter:ada https://x.example arn:aws:x ip:1.2.3.4") == ["acter"]
