"""What a search means, and the place and the right form where it means nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.search import parser
from pipelines.search.terms import Compared, Either, Every, Not, SearchError, Term, Word


def word(text: str) -> Term:
    return Term(words=(Word(text=text),))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", Every(parts=())),
        ("a b", Every(parts=(word("a"), word("b")))),
        ("a And b", Every(parts=(word("a"), word("b")))),
        ("a OR b c", Either(parts=(word("a"), Every(parts=(word("b"), word("c")))))),
        ("(a or b) c", Every(parts=(Either(parts=(word("a"), word("b"))), word("c")))),
        ("not a b", Every(parts=(Not(part=word("a")), word("b")))),
        ("-(a b)", Not(part=Every(parts=(word("a"), word("b"))))),
        ("android orange nothing", Every(parts=tuple(map(word, ("android", "orange", "nothing"))))),
        ('"a AND b"', Term(words=(Word(text="a AND b", quoted=True),))),
        ("a,b", word("a,b")),
        ("52.5,13.4", word("52.5,13.4")),
        ("a, b", Term(words=(Word(text="a"), Word(text="b")))),
        ("(a,b)", Term(words=(Word(text="a"), Word(text="b")))),
        ("--x", Not(part=word("-x"))),
        ("a - b", Every(parts=(word("a"), word("-"), word("b")))),
        ("action:AND", Term(field="action", words=(Word(text="AND"),))),
        ("Ada <ada@x.example>", Every(parts=(word("Ada"), word("<ada@x.example>")))),
    ],
)
def test_operators_bind_as_documented(text: str, tree: object) -> None:
    assert parser.parse(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:iam::1:role/x",
        "https://x.example/?a=b&c=d",
        "urn:uuid:1",
        "mailto:ada@x.example",
        "fe80::1",
        "2001:db8:0:1::5",
        "aa:bb:cc:dd:ee:ff",
        "host.example:8080",
        r"C:\Users\ada",
        "dGVzdA==",
        "dGVzdDE=",
        "10:30",
        "foo->bar",
        "x/y?z",
    ],
)
def test_pasted_text_with_a_colon_or_a_sign_is_searched_for_unchanged(text: str) -> None:
    assert parser.parse(text) == word(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("203[.]0[.]113[.]67", "203.0.113.67"),
        ("203(.)0{.}113[dot]67", "203.0.113.67"),
        ("hxxps://evil[.]example/a", "https://evil.example/a"),
        ("hxxp[://]evil.example", "http://evil.example"),
        ("ada[at]evil(dot)example", "ada@evil.example"),
    ],
)
def test_a_defanged_address_is_the_address(text: str, plain: str) -> None:
    assert parser.parse(text) == word(plain)
    assert parser.parse(f"actor:{text}") == Term(field="actor", words=(Word(text=plain),))


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.5\n203.0.113.6\n",
        "203.0.113.5,\r\n\r\n  203[.]0.113.6,\n",
        "203.0.113.5, 203.0.113.6",
        "203.0.113.5,203.0.113.6",
        "(203.0.113.5,203.0.113.6)",
    ],
)
def test_a_pasted_list_finds_any_of_its_values(text: str) -> None:
    assert parser.parse(text) == Term(words=(Word(text="203.0.113.5"), Word(text="203.0.113.6")))


@pytest.mark.parametrize("values", ["a,b", "(a, b)", "(a b)", "(a or b)", "(a\nb)", "( a , b )"])
def test_a_list_of_a_field_is_written_in_several_ways(values: str) -> None:
    words = (Word(text="a"), Word(text="b"))
    assert parser.parse(f"user:{values}") == Term(field="actor", words=words)


def test_a_list_of_lines_with_fields_is_a_search() -> None:
    assert parser.parse("user:a\nb") == Every(
        parts=(Term(field="actor", words=(Word(text="a"),)), word("b"))
    )


@pytest.mark.parametrize(
    "moment", ["2026-11-17T08:00Z", "2026-11-17 08:00", '"2026-11-17 09:00+01:00"']
)
def test_a_time_is_utc_without_an_offset(moment: str) -> None:
    node = parser.parse(f"time >= {moment} x")
    assert isinstance(node, Every)
    assert isinstance(node.parts[0], Compared)
    assert (node.parts[0].sign, node.parts[0].moment.isoformat()) == (
        ">=",
        "2026-11-17T08:00:00+00:00",
    )


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("a AND", 5, "a term is missing"),
        ("and b", 0, "AND needs a term on each side"),
        ("a OR or b", 5, "OR needs a term on each side"),
        ("a not", 5, "a term is missing"),
        ("a, , b", 3, "a comma needs a term on each side"),
        ("(a b", 4, "never closed: add )"),
        ("a (b))", 5, "never opened"),
        ("a ()", 3, "a term is missing"),
        ('a "b', 2, "the quote is never closed"),
        ('""', 0, "an empty phrase"),
        ("Mozilla(x", 7, "two terms without a space"),
        ('a"b"', 1, "two terms without a space"),
        ("a b, c", 3, "a comma separates single values"),
        ("x acter:ada", 2, "unknown field 'acter': use actor"),
        ("user-agent:curl", 0, "use user_agent"),
        ("date:2026-11-17", 0, "unknown field 'date'"),
        ("acter=ada", 0, "unknown field 'acter'"),
        ("zzz:1", 0, "unknown field 'zzz': put quotes"),
        ("actor: ", 6, "a value is missing"),
        ("actor=", 6, "a value is missing"),
        ("actor:a,", 8, "a value is missing"),
        ("actor:(a and b)", 9, "a list holds values only"),
        ("actor:(a -b)", 9, "a list holds values only"),
        ("actor:(a ip:b)", 9, "a list holds values only"),
        ("actor:()", 7, "a list holds values only"),
        ("actor:(a", 8, "never closed: add )"),
        ("ip:203.0.113.0/33", 3, "not a network"),
        ("time:2026-11-17", 0, "use time>=2026-11-17"),
        ("time>yesterday", 5, "not a time"),
        ("seq>5", 0, "only times are compared"),
        ("not " * 21 + "a", 4, "nested too deeply"),
        ("a " * 1001, 2000, "too many words"),
        ("a" * 20_001, 20_000, "too long"),
        ("ada " * 41, 0, "use at most 40, write a list"),
        ("ada OR not grace* " * 20 + "OR x", 0, "41 words to find in every column"),
        (f"({', '.join(f'a{n}*' for n in range(41))})", 0, "use at most 40"),
        ("actor:ada " * 201, 0, "use at most 200"),
    ],
)
def test_an_error_has_the_place_and_the_right_form(text: str, place: int, reason: str) -> None:
    with pytest.raises(SearchError) as caught:
        parser.parse(text)
    assert caught.value.place == place
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "text",
    ["ada " * 40, "actor:ada " * 200, ", ".join(f"198.51.100.{n % 256}" for n in range(1000))],
)
def test_searches_within_the_limits_are_parsed(text: str) -> None:
    assert parser.parse(text)


def test_the_caret_points_at_the_place_in_a_long_text() -> None:
    with pytest.raises(SearchError) as caught:
        parser.parse("word\t" * 40 + "acter:ada" + " word" * 40)
    shown, caret = caught.value.pointer.split("\n")
    assert shown[caret.index("^") :].startswith("acter:ada")
    assert len(shown) < 100


def test_deep_brackets_are_no_burden() -> None:
    assert parser.parse("(" * 5000 + "a" + ")" * 5000) == word("a")


@given(st.text() | st.text('ab:()", =-<>\n\\*/&ANDORT', max_size=40))
def test_any_text_is_understood_or_refused_with_a_place(text: str) -> None:
    try:
        parser.parse(text)
    except SearchError as error:
        assert 0 <= error.place <= len(text)
        assert error.pointer.endswith("^")


@given(
    st.text(min_size=1),
    st.sampled_from(["", "a", "a or b", "a, b", "a\nb", "a,b", "c:", "(a or b) -c"]),
)
def test_a_phrase_is_added_to_a_whole_search(phrase: str, text: str) -> None:
    added = Term(words=(Word(text=phrase, quoted=True),))
    both = parser.also(text, phrase, negated=True)
    if text == "c:":
        assert both.startswith("c: ")
        return
    found = parser.parse(both)
    if not text:
        assert found == Not(part=added)
        return
    assert isinstance(found, Every)
    assert found.parts[-1] == Not(part=added)
    rest = found.parts[:-1]
    assert (rest[0] if len(rest) == 1 else Every(parts=rest)) == parser.parse(text)


def test_the_command_line_loads_no_parser_for_its_help() -> None:
    code = "import sys; import pipelines.cli.main; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
