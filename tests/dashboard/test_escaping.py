"""Event text in labels that Streamlit renders as Markdown."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import escaping
from pipelines import visible
from tests.dashboard.small_lakes import HOSTILE

ACTIVE = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def plain(escaped: str) -> str:
    """Return the text without its entities."""
    return re.sub(r"&#\d+;", "", escaped)


@given(st.text(max_size=200))
def test_no_punctuation_is_left_and_the_reader_sees_the_text(text: str) -> None:
    escaped = escaping.markdown(text, 1000)
    assert not ACTIVE & set(plain(escaped))
    marked = visible.text(text, keep="\t\n\r")
    assert html.unescape(escaped) == " ".join(marked.split())


@given(st.text(max_size=200), st.integers(1, 80))
def test_a_label_is_one_short_line(text: str, most: int) -> None:
    shown = re.sub(r"&#\d+;", "x", escaping.markdown(text, most))
    assert len(shown) <= most
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "![x](http://evil.example/beacon.png)",
        "[click](javascript:alert(1))",
        "<img src=x onerror=alert(1)>",
        "&lt;script&gt;",
        ":red[alarm] :material/home: $x^2$ `code` **bold** _thin_",
        "# heading\n- list\n\n    code",
        "http://evil.example",
    ],
)
def test_hostile_text_has_no_markup(text: str) -> None:
    escaped = escaping.markdown(text, 1000)
    assert not ACTIVE & set(plain(escaped))
    assert "\n" not in escaped


def test_letters_of_all_scripts_stay_readable() -> None:
    assert escaping.markdown("Łukasz 李雷  \t Ñandú") == "Łukasz 李雷 Ñandú"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert html.unescape(escaping.markdown("a" * 61)) == "a" * 59 + "…"
    assert escaping.markdown("a" * 60) == "a" * 60
