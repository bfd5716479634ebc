"""Every search that can be written means the same to the parser and to a naive reader."""

from __future__ import annotations

import functools
import os

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.schemas import EVENTS
from pipelines.search import compiler, parser
from pipelines.search.terms import SearchError
from tests.search import drawn
from tests.search.drawn import Drawn

MANY = settings(
    max_examples=int(os.environ.get("AUDITLAKE_SEARCHES", "500")),
    suppress_health_check=[HealthCheck.too_slow],
)
SOME = '()", \n:=-*<>\\and not or x:'


@functools.cache
def frame(seed: int) -> pl.DataFrame:
    return pl.DataFrame(drawn.rows(seed), schema=EVENTS).with_row_index("row")


def found(text: str, seed: int) -> list[int]:
    expressions = compiler.expressions(parser.parse(text))
    return frame(seed).filter(pl.all_horizontal(True, *expressions))["row"].to_list()


@MANY
@given(drawn.searches, st.integers(0, 9))
def test_a_search_finds_the_rows_that_a_naive_reader_finds(search: Drawn, seed: int) -> None:
    expected = [n for n, row in enumerate(drawn.rows(seed)) if search.holds(row)]
    assert found(search.text, seed) == expected, search.text


@MANY
@given(drawn.searches, st.integers(0, 99), st.integers(0, 3), st.text(SOME, max_size=3))
def test_a_damaged_search_is_understood_or_refused_with_a_place(
    search: Drawn, place: int, cut: int, put: str
) -> None:
    text = search.text[:place] + put + search.text[place + cut :]
    try:
        compiler.expressions(parser.parse(text))
    except SearchError as error:
        assert 0 <= error.place <= len(text)
        assert error.reason
