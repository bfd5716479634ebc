"""The tree of a query, and the error that points to a place in it."""

from pipelines.errors import ConfigurationError
from pipelines.search.terms import Either, Every, Not, SearchError, Term, Word, depth, pointer

ADA = Term(words=(Word(text="ada"),))


def test_the_depth_of_a_tree_is_its_number_of_levels():
    assert depth(ADA) == 1
    assert depth(Every(parts=())) == 1
    assert depth(Not(part=Either(parts=(ADA, Every(parts=(ADA,)))))) == 4


def test_the_caret_is_below_the_place():
    shown, caret = pointer("actor:ada AND", 10).split("\n")
    assert shown == "actor:ada AND"
    assert caret.index("^") == 10


def test_a_long_text_is_cut_around_the_place():
    text = "x" * 200 + "!" + "y" * 200
    shown, caret = pointer(text, 200).split("\n")
    assert shown.startswith("...")
    assert shown[caret.index("^")] == "!"
    assert len(shown) < 100


def test_characters_without_width_do_not_move_the_caret():
    shown, caret = pointer("a\u200b\u202e\n!b", 4).split("\n")
    assert shown[caret.index("^")] == "!"
    assert shown.isprintable()


def test_an_error_has_the_place_and_the_reason():
    error = SearchError("a AND", 5, "a term is missing after AND")
    assert isinstance(error, ConfigurationError)
    assert (error.place, error.reason) == (5, "a term is missing after AND")
    assert str(error) == "search: a term is missing after AND\na AND\n     ^"
