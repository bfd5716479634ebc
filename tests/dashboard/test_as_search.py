"""The page's query, written as a search, finds the same events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import fields, queries
from dashboard.as_search import as_search
from dashboard.lake import Lake
from dashboard.queries import Filter, Query
from pipelines.search import compiler, parser
from pipelines.search.terms import Every, Not, Term, Word
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUERY = Query(since=NOW - timedelta(days=7), until=NOW + timedelta(seconds=1))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", ()),
        ("ada OR grace", (Filter(field="outcome", value="failure", negated=True),)),
        (
            "",
            (
                Filter(field="integration", value="okta"),
                Filter(field="integration", value="google"),
                Filter(field="country", value=""),
            ),
        ),
        ("user*in", (Filter(field="actor", value=small_lakes.HOSTILE),)),
    ],
)
def test_a_query_finds_the_same_events_as_its_search(
    tmp_path: Path, text: str, filters: tuple[Filter, ...]
) -> None:
    small_lakes.append(tmp_path, [*small_lakes.events(200, end=NOW), small_lakes.hostile(900, NOW)])
    snapshot = Lake(str(tmp_path), {}).look()
    assert snapshot
    query = Query(since=QUERY.since, until=QUERY.until, text=text, filters=filters)
    same = compiler.expressions(parser.parse(as_search(query)))
    wanted = queries.matching(snapshot.events, query).select("event_uid").collect()
    found = snapshot.events.filter(pl.all_horizontal(True, *same)).select("event_uid").collect()
    assert sorted(found["event_uid"]) == sorted(wanted["event_uid"])


@given(st.sampled_from(fields.NAMES), st.lists(texts, min_size=1, max_size=3), st.booleans())
def test_any_value_of_a_filter_is_written_exactly(
    field: str, values: list[str], negated: bool
) -> None:
    filters = tuple(Filter(field=field, value=value, negated=negated) for value in values)
    node = parser.parse(as_search(Query(since=NOW, until=NOW, filters=filters)))
    words = tuple(Word(text=value, quoted=True) for value in values)
    term = Term(words=words, field=field, exact=True)
    assert node == (Not(part=term) if negated else term)


def test_what_had_arrived_by_then_is_part_of_the_search() -> None:
    query = Query(since=NOW, until=NOW, text="ada", held=NOW)
    node = parser.parse(as_search(query))
    assert isinstance(node, Every)
    assert len(node.parts) == 2
