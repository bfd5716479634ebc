"""No text that a search finds in a file is ruled out by the file's filters."""

import random

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.lake import text_index
from pipelines.schemas import EVENTS, ID_FILTERS, WORD_FILTERS
from pipelines.search import compiler
from pipelines.search.fields import SEARCHED, TARGETS
from pipelines.search.terms import Term, Word

# Letters whose case is folded oddly, Cyrillic and mathematical ones, and invisible characters.
_ODD = "kKsSiI\u017f\u0130\u0131\u00df\u1e9e\u03a3\u03c3\u03c2\u00e9\u00c9\ufb01\u0430\u0410\u212a"
_ODD += "\u200b\u202e\x00\U0001d41a"
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="aA0 \0.-_*\\", max_size=40),
    st.text(alphabet=_ODD, max_size=20),
    st.uuids().map(str),
    st.integers(0, 2**64).map(str),
)


def frame(*texts, column="message"):
    rows = [dict.fromkeys(EVENTS) | {column: text} for text in texts]
    return pl.DataFrame(rows, schema=EVENTS)


def found(frame, word):
    """Return whether a search for the word finds any row."""
    every = compiler.expressions(Term(words=(Word(text=word, quoted=True),)))
    return frame.filter(every).height > 0


def possible(filters, word):
    return lacking(filters, word) != compiler.EVERYWHERE


def lacking(filters, word):
    lookup = text_index.lookup(word)
    return lookup.lacking(filters) if lookup else frozenset()


@given(
    texts=st.lists(HOSTILE, min_size=1, max_size=5),
    column=st.sampled_from([*SEARCHED, TARGETS]),
    change=st.sampled_from([str, str.lower, str.upper, str.swapcase, str.title, str.casefold]),
    data=st.data(),
)
@example(["x" * 30], "event_id", str.upper, None)
def test_a_text_that_a_search_finds_is_never_ruled_out(texts, column, change, data):
    values = [[{"name": text}] for text in texts] if column == TARGETS else texts
    events = frame(*values, column=column)
    whole = texts[0]
    if data:
        start = data.draw(st.integers(0, len(whole)))
        whole = whole[start : data.draw(st.integers(start, len(whole)))]
    filters = text_index.filters(events)
    for word in {whole, change(whole), whole.replace("\u200b", "")}:
        assert column not in lacking(filters, word) or not found(events, word)


@pytest.mark.parametrize("size", [1, 7, 1000, text_index._CHUNK, text_index._CHUNK * 2 + 11])
def test_any_part_of_any_text_is_found_in_long_columns_too(size):
    dice = random.Random(size)
    texts = ["".join(dice.choices("0123456789abcdef", k=20)) for _ in range(-(-size // 20))]
    filters = text_index.filters(frame(*texts, column="event_id"))
    for text in dice.choices(texts, k=200):
        start = dice.randrange(12)
        assert possible(filters, text[start : dice.randrange(start + 1, 21)].upper())


def test_what_is_nowhere_is_nearly_always_ruled_out():
    dice = random.Random(1)
    digits = [str(dice.randrange(10**19, 10**20)) for _ in range(3000)]
    names = [f"Document {number} of a team" for number in range(0, 6000, 2)]
    events = pl.concat([frame(*digits, column="event_id"), frame(*names)])
    filters = text_index.filters(events)
    assert sum(possible(filters, str(dice.randrange(10**19, 10**20))) for _ in range(500)) < 5
    assert sum(possible(filters, f"document {n} of") for n in range(1, 4000, 4)) < 60
    size = sum(map(len, filters.values()))
    assert size / events.height < 10


@pytest.mark.parametrize("word", ["", "a", "abcde", "é" * 2, "\0" * 20, "abc\0def\0ghi"])
def test_words_without_a_run_are_not_looked_up(word):
    assert text_index.lookup(word) is None


def test_a_file_of_which_nothing_is_known_may_contain_anything():
    nothing = dict.fromkeys((*ID_FILTERS, *WORD_FILTERS))
    assert possible(nothing, "0123456789")


def test_a_file_without_texts_contains_none():
    assert not possible(text_index.filters(frame(None)), "0123456789")
    assert not possible(text_index.filters(frame()), "0123456789")


def test_texts_of_any_size_take_bounded_room():
    dice = random.Random(2)
    huge = "".join(map(chr, dice.choices(range(33, 127), k=300_000)))
    filters = text_index.filters(frame(huge, huge[::-1], column="user_agent"))
    assert sum(map(len, filters.values())) < 1000
    assert possible(filters, huge[1000:1040])


def test_short_words_are_ruled_out_of_texts_that_are_no_ids():
    filters = text_index.filters(frame("the first words"))
    assert lacking(filters, "abcdef") == lacking(filters, "abcdefg")
    assert lacking(filters, "abcdef") & {"message", "event_id", TARGETS} == {"message", TARGETS}
    assert lacking(filters, "first w") == frozenset()


def test_each_word_is_looked_up_in_each_file():
    texts = ("first words", "other text")
    rows = [{"path": text, **text_index.filters(frame(text))} for text in texts]
    lookups = [text_index.lookup(word) for word in ("first words", "OTHER TEXT", "neither one")]
    found = text_index.lacking(lookups, pl.DataFrame(rows))
    excluded = [{path for path, names in each.items() if "message" in names} for each in found]
    assert excluded == [{"other text"}, {"first words"}, {*texts}]
